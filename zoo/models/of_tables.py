"""Tables and time series."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from zoo.entry import Builder, Family, Lazy
from zoo.inputs import vectors


def taken(made_by: Any, **offered: Any) -> dict[str, Any]:
    """Those of the arguments that a class takes."""
    names = inspect.signature(made_by.__init__).parameters
    return {name: value for name, value in offered.items() if name in names}


# Recommendation.

TORCHFM = {
    "afi": "AutomaticFeatureInteractionModel",
    "afm": "AttentionalFactorizationMachineModel",
    "dcn": "DeepCrossNetworkModel",
    "dfm": "DeepFactorizationMachineModel",
    "ffm": "FieldAwareFactorizationMachineModel",
    "fm": "FactorizationMachineModel",
    "fnfm": "FieldAwareNeuralFactorizationMachineModel",
    "nfm": "NeuralFactorizationMachineModel",
    "pnn": "ProductNeuralNetworkModel",
    "wd": "WideAndDeepModel",
    "xdfm": "ExtremeDeepFactorizationMachineModel",
}
DEEPCTR = [
    "AFM",
    "AFN",
    "AutoInt",
    "CCPM",
    "DCN",
    "DCNMix",
    "DIFM",
    "DeepFM",
    "FiBiNET",
    "IFM",
    "MLR",
    "NFM",
    "ONN",
    "PNN",
    "WDL",
    "xDeepFM",
]


def of_torchfm(module: str, name: str) -> Any:
    """A factorisation machine of three fields."""
    made_by = getattr(Lazy(f"torchfm.model.{module}"), name)
    given = taken(
        made_by,
        field_dims=Lazy("numpy").array([5, 6, 7]),
        embed_dim=8,
        mlp_dims=(16,),
        dropout=0.2,
        dropouts=(0.2, 0.2),
        cross_layer_sizes=(8, 8),
        num_layers=2,
        attn_size=8,
        atten_embed_dim=8,
        num_heads=2,
    )
    return made_by(**given), torch.randint(0, 5, (8, 3))


def of_deepctr(name: str) -> Any:
    """A click-through model of three sparse fields and, where it takes one, a dense one."""
    feature, made_by = Lazy("deepctr_torch.inputs"), getattr(Lazy("deepctr_torch.models"), name)
    fields = [feature.SparseFeat(f"field {size}", size, 4) for size in (5, 6, 7)]
    values: list[Tensor] = [torch.randint(0, 5, (8, 3)).float()]
    if name not in ("AFM", "CCPM"):
        fields.append(feature.DenseFeat("number", 1))
        values.append(torch.rand(8, 1))
    times = 1 if name in ("PNN", "MLR") else 2
    model = made_by(*[fields] * times, **taken(made_by, dnn_dropout=0.2, dnn_use_bn=True))
    return model, torch.cat(values, 1)


# Deep tables.

BLOCK = dict(input_dim=8, n_heads=2, n_blocks=1)
WIDEDEEP: dict[str, dict[str, Any]] = {
    "ContextAttentionMLP": dict(input_dim=8, n_blocks=1),
    "FTTransformer": BLOCK,
    "SAINT": BLOCK,
    "SelfAttentionMLP": BLOCK,
    "TabFastFormer": BLOCK,
    "TabMlp": {},
    "TabPerceiver": dict(
        input_dim=8,
        n_cross_attn_heads=2,
        n_latents=4,
        latent_dim=8,
        n_latent_heads=2,
        n_latent_blocks=1,
        n_perceiver_blocks=1,
    ),
    "TabTransformer": BLOCK,
}
SIZED = ("TabMlp", "BayesianTabMlp")
"""They take the width of each embedding."""


def of_widedeep(name: str, arguments: dict[str, Any], module: str = "models") -> Any:
    """A model of two categories and two numbers."""
    width = (4,) if name in SIZED else ()
    model = getattr(Lazy(f"pytorch_widedeep.{module}"), name)(
        column_idx={"a": 0, "b": 1, "c": 2, "d": 3},
        cat_embed_input=[("a", 5, *width), ("b", 6, *width)],
        continuous_cols=["c", "d"],
        **arguments,
    )
    return model, torch.cat([torch.randint(1, 5, (8, 2)).float(), torch.randn(8, 2)], 1)


TABNET, RTDL = Lazy("pytorch_tabnet.tab_network"), Lazy("rtdl_revisiting_models")
FLAT = dict(d_in=6, d_out=1, n_blocks=2, d_block=16)

# Series.

NEURALFORECAST = [
    "Autoformer",
    "BiTCN",
    "DLinear",
    "DeepAR",
    "DeepNPTS",
    "DilatedRNN",
    "FEDformer",
    "GRU",
    "Informer",
    "KAN",
    "LSTM",
    "MLP",
    "MLPMultivariate",
    "NBEATS",
    "NBEATSx",
    "NHITS",
    "NLinear",
    "PatchTST",
    "RMoK",
    "RNN",
    "SOFTS",
    "StemGNN",
    "TCN",
    "TFT",
    "TSMixer",
    "TSMixerx",
    "TiDE",
    "TimeMixer",
    "TimeXer",
    "TimesNet",
    "VanillaTransformer",
    "XLinear",
    "iTransformer",
]


def of_neuralforecast(name: str, **more: Any) -> Any:
    """A forecaster of four steps from sixteen."""
    made_by = getattr(Lazy("neuralforecast.models"), name)
    given = taken(
        made_by, h=4, input_size=16, max_steps=1, n_series=3, hidden_size=16,
        encoder_hidden_size=16,
        decoder_hidden_size=16, n_head=4, encoder_layers=1, decoder_layers=1, n_heads=4,
        linear_hidden_size=16, mlp_units=[[16, 16]] * 3, num_layers=1, context_size=4, dropout=0.1,
        conv_hidden_size=16, lstm_n_layers=1, lstm_hidden_size=16, patch_len=8, stride=4,
        d_model=16, d_core=16, d_ff=16, e_layers=1, top_k=2, num_kernels=2, n_block=1, ff_dim=8,
        n_layers=2,
    )  # fmt: skip
    if name == "FEDformer":
        given["n_head"] = 8  # it takes no other number
    model = made_by(**given | more)
    past = vectors(16, 3 if made_by.MULTIVARIATE else 1)
    window: dict[str, Any] = dict.fromkeys(("hist_exog", "futr_exog", "stat_exog", "outsample_y"))
    if name == "NBEATSx":
        window |= dict(hist_exog=vectors(16, 0), futr_exog=vectors(20, 0), stat_exog=vectors(0))
    return model, window | dict(insample_y=past, insample_mask=torch.ones_like(past))


def tcn(**more: Any) -> Builder:
    """A temporal convolutional network."""
    return lambda: (
        Lazy("pytorch_tcn").TCN(
            num_inputs=4, num_channels=[8, 8], kernel_size=3, dropout=0.1, **more
        ),
        vectors(4, 20),
    )


TFT = Lazy("pytorch_forecasting.models.temporal_fusion_transformer.sub_modules")
MAMBA, JAMBA = Lazy("mambapy.mamba"), Lazy("mambapy.jamba")
SMALL_MAMBA = dict(d_model=16, n_layers=2, d_state=4)

MODELS: Family = {
    "deepctr-torch": {name: lambda name=name: of_deepctr(name) for name in DEEPCTR},  # type: ignore[misc]
    "mambapy": {
        "Jamba": lambda: (
            JAMBA.Jamba(
                JAMBA.JambaLMConfig(
                    d_model=16,
                    n_layers=4,
                    mlp_size=32,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                    num_experts=4,
                    attn_layer_period=2,
                    attn_layer_offset=1,
                    expert_layer_period=2,
                    expert_layer_offset=1,
                    attention_dropout=0.1,
                )
            ),
            vectors(12, 16),
        ),
        "Mamba": lambda: (MAMBA.Mamba(MAMBA.MambaConfig(**SMALL_MAMBA)), vectors(12, 16)),
        "Mamba, sequential": lambda: (
            MAMBA.Mamba(MAMBA.MambaConfig(**SMALL_MAMBA, pscan=False)),
            vectors(12, 16),
        ),
    },
    "neuralforecast": {
        name: lambda name=name: of_neuralforecast(name)  # type: ignore[misc]
        for name in NEURALFORECAST
    }
    | {
        "PatchTST, attention dropout": lambda: of_neuralforecast("PatchTST", attn_dropout=0.2),
        "PatchTST, attention dropout, no residual attention": lambda: of_neuralforecast(
            "PatchTST", attn_dropout=0.2, res_attention=False
        ),
    },
    "pytorch-forecasting": {
        "GatedResidualNetwork": lambda: (
            TFT.GatedResidualNetwork(16, 16, 16, dropout=0.1),
            vectors(10, 16),
        ),
        "InterpretableMultiHeadAttention": lambda: (
            TFT.InterpretableMultiHeadAttention(n_head=4, d_model=16, dropout=0.1),
            *[vectors(10, 16)] * 3,
        ),
        "NBEATSGenericBlock": lambda: (
            Lazy("pytorch_forecasting.models.nbeats.sub_modules").NBEATSGenericBlock(
                units=16,
                thetas_dim=4,
                num_block_layers=2,
                backcast_length=10,
                forecast_length=4,
            ),
            vectors(10),
        ),
    },
    "pytorch-tabnet": {
        "TabNet": lambda: (
            TABNET.TabNet(8, 3, n_d=8, n_a=8, n_steps=3, group_attention_matrix=torch.eye(8)),
            torch.randn(8, 8),
        ),
        "TabNetPretraining": lambda: (
            TABNET.TabNetPretraining(8, pretraining_ratio=0.2, group_attention_matrix=torch.eye(8)),
            torch.randn(8, 8),
        ),
    },
    "pytorch-tcn": {
        "TCN, batch norm": tcn(use_norm="batch_norm"),
        "TCN, weight norm": tcn(use_norm="weight_norm", use_skip_connections=True, causal=True),
    },
    "pytorch-widedeep": {
        name: lambda name=name, given=given: of_widedeep(name, given)  # type: ignore[misc]
        for name, given in WIDEDEEP.items()
    }
    | {"BayesianTabMlp": lambda: of_widedeep("BayesianTabMlp", {}, "bayesian_models")},
    "rtdl-revisiting-models": {
        "FTTransformer": lambda: (
            RTDL.FTTransformer(
                n_cont_features=6,
                cat_cardinalities=[4, 5],
                d_out=1,
                n_blocks=2,
                d_block=16,
                attention_n_heads=4,
                attention_dropout=0.2,
                ffn_d_hidden=None,
                ffn_d_hidden_multiplier=2,
                ffn_dropout=0.1,
                residual_dropout=0.1,
            ),
            torch.randn(8, 6),
            torch.randint(0, 4, (8, 2)),
        ),
        "MLP": lambda: (RTDL.MLP(**FLAT, dropout=0.1), torch.randn(8, 6)),
        "ResNet": lambda: (
            RTDL.ResNet(**FLAT, d_hidden=None, d_hidden_multiplier=2.0, dropout1=0.3, dropout2=0.1),
            torch.randn(8, 6),
        ),
    },
    "tabm": {
        "TabM": lambda: (
            Lazy("tabm").TabM.make(
                n_num_features=6,
                cat_cardinalities=[3],
                d_out=1,
                k=4,
                n_blocks=2,
                d_block=16,
                dropout=0.1,
            ),
            torch.randn(8, 6),
            torch.randint(0, 3, (8, 1)),
        )
    },
    "torchfm": {
        name: lambda module=module, name=name: of_torchfm(module, name)  # type: ignore[misc]
        for module, name in TORCHFM.items()
    },
}
