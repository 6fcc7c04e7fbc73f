"""The packages of Phil Wang, one for each idea: transformers, quantisers, mixtures of experts."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zoo.entry import Builder, Family, Keywords, Lazy, first_taken
from zoo.inputs import images, tokens, vectors

# Vision transformers.

SMALL = dict(image_size=32, patch_size=8, num_classes=10, dim=32, depth=2, heads=4, mlp_dim=64)
DROPPED = SMALL | dict(dropout=0.1, emb_dropout=0.1)
FLAT = {name: value for name, value in SMALL.items() if name not in ("image_size",)}
VIDEO = dict(
    image_size=32,
    image_patch_size=8,
    frames=4,
    frame_patch_size=2,
    num_classes=10,
    dim=32,
    heads=4,
    mlp_dim=64,
)
TWINS = {
    f"s{stage}_{name}": value
    for stage, patch in enumerate((4, 2, 2, 1), 1)
    for name, value in (
        ("emb_dim", 16),
        ("patch_size", patch),
        ("local_patch_size", 2 if stage < 3 else 1),
    )
}
CROSS = {
    f"{size}_{name}": value
    for size, width in (("sm", 16), ("lg", 32))
    for name, value in (
        ("dim", width),
        ("patch_size", width // 2),
        ("enc_depth", 1),
        ("enc_heads", 2),
        ("enc_mlp_dim", 32),
    )
}
MAX_VIT = dict(
    num_classes=10,
    dim=16,
    depth=(1, 1),
    dim_head=8,
    dim_conv_stem=16,
    window_size=4,
    mbconv_expansion_rate=2,
    dropout=0.1,
)
FOUR = dict(depth=(1, 1, 1, 1))
VIT: dict[str, tuple[str, dict[str, Any]]] = {
    "ats_vit": ("ViT", DROPPED | dict(max_tokens_per_depth=(8, 4))),
    "cait": ("CaiT", DROPPED | dict(cls_depth=1, layer_dropout=0.05)),
    "cct": (
        "CCT",
        dict(
            img_size=32,
            embedding_dim=48,
            n_conv_layers=1,
            num_layers=2,
            num_heads=4,
            mlp_ratio=2,
            num_classes=10,
            kernel_size=3,
            dropout_rate=0.1,
            attention_dropout=0.1,
            stochastic_depth_rate=0.3,
        ),
    ),
    "cross_vit": ("CrossViT", CROSS | dict(image_size=32, num_classes=10, depth=1, dropout=0.1)),
    "crossformer": (
        "CrossFormer",
        FOUR
        | dict(
            num_classes=10,
            dim=(16, 16, 32, 32),
            global_window_size=(2, 2, 1, 1),
            local_window_size=(2, 2, 1, 1),
            attn_dropout=0.1,
        ),
    ),
    "cvt": (
        "CvT",
        dict(
            num_classes=10,
            s1_emb_dim=16,
            s2_emb_dim=16,
            s3_emb_dim=32,
            s2_heads=2,
            s3_heads=2,
            s3_depth=1,
            dropout=0.1,
        ),
    ),
    "deepvit": ("DeepViT", DROPPED),
    "efficient": (
        "ViT",
        dict(image_size=32, patch_size=8, num_classes=10, dim=32, transformer=nn.Identity()),
    ),
    "levit": (
        "LeViT",
        dict(
            image_size=32,
            num_classes=10,
            stages=2,
            dim=(16, 32),
            depth=1,
            heads=(2, 4),
            mlp_mult=2,
            dropout=0.1,
        ),
    ),
    "local_vit": ("LocalViT", DROPPED),
    "look_vit": (
        "LookViT",
        dict(
            dim=32,
            image_size=32,
            num_classes=10,
            depth=2,
            patch_size=8,
            heads=4,
            mlp_factor=2,
            dim_head=8,
            highres_patch_size=4,
            highres_mlp_factor=2,
            cross_attn_heads=2,
            cross_attn_dim_head=8,
            dropout=0.1,
        ),
    ),
    "max_vit": ("MaxViT", MAX_VIT),
    "max_vit_with_registers": ("MaxViT", MAX_VIT | dict(num_register_tokens=2)),
    "mobile_vit": (
        "MobileViT",
        dict(
            image_size=(64, 64),
            dims=[16, 16, 16],
            channels=[8, 8, *[16] * 8, 32],
            num_classes=10,
        ),
    ),
    "nest": (
        "NesT",
        dict(
            image_size=32,
            patch_size=4,
            dim=16,
            heads=2,
            num_hierarchies=2,
            block_repeats=(1, 1),
            num_classes=10,
        ),
    ),
    "normalized_vit": ("nViT", SMALL),
    "parallel_vit": ("ViT", DROPPED),
    "pit": ("PiT", DROPPED | dict(depth=(1, 1), heads=(2, 2))),
    "regionvit": (
        "RegionViT",
        FOUR | dict(dim=(16, 16, 32, 32), num_classes=10, window_size=2, attn_dropout=0.1),
    ),
    "rvt": ("RvT", DROPPED),
    "scalable_vit": (
        "ScalableViT",
        FOUR
        | dict(
            num_classes=10,
            dim=16,
            heads=(2, 2, 2, 2),
            ssa_dim_key=(8, 8, 8, 8),
            ssa_dim_value=(8, 8, 8, 8),
            reduction_factor=(2, 2, 1, 1),
            window_size=(4, 2, 2, None),
            dropout=0.1,
        ),
    ),
    "sep_vit": (
        "SepViT",
        FOUR
        | dict(num_classes=10, dim=16, dim_head=8, heads=(1, 2, 2, 2), window_size=2, dropout=0.1),
    ),
    "simple_flash_attn_vit": ("SimpleViT", SMALL | dict(use_flash=False)),
    "simple_uvit": ("SimpleUViT", SMALL),
    "simple_vit": ("SimpleViT", SMALL),
    "simple_vit_1d": ("SimpleViT", FLAT | dict(seq_len=32)),
    "simple_vit_with_fft": ("SimpleViT", SMALL | dict(freq_patch_size=8)),
    "simple_vit_with_hyper_connections": ("SimpleViT", SMALL | dict(num_residual_streams=2)),
    "simple_vit_with_patch_dropout": ("SimpleViT", SMALL | dict(patch_dropout=0.25)),
    "simple_vit_with_qk_norm": ("SimpleViT", SMALL),
    "simple_vit_with_register_tokens": ("SimpleViT", SMALL),
    "simple_vit_with_value_residual": ("SimpleViT", SMALL),
    "simple_vit_3d": ("SimpleViT", VIDEO | dict(depth=2)),
    "t2t": (
        "T2TViT",
        dict(
            dim=32,
            image_size=32,
            depth=2,
            heads=4,
            mlp_dim=64,
            num_classes=10,
            t2t_layers=((3, 2), (3, 2)),
        ),
    ),
    "twins_svt": ("TwinsSVT", TWINS | dict(num_classes=10, s3_depth=1, dropout=0.1)),
    "vit": ("ViT", DROPPED),
    "vit_1d": ("ViT", FLAT | dict(seq_len=32, dropout=0.1, emb_dropout=0.1)),
    "vit_3d": ("ViT", VIDEO | dict(depth=2, dropout=0.1, emb_dropout=0.1)),
    "vit_for_small_dataset": ("ViT", DROPPED),
    "vit_with_decorr": ("ViT", DROPPED),
    "vit_with_patch_dropout": ("ViT", DROPPED | dict(patch_dropout=0.25)),
    "vit_with_patch_merger": (
        "ViT",
        DROPPED | dict(patch_merge_layer=1, patch_merge_num_tokens=4),
    ),
    "vivit": (
        "ViViT",
        VIDEO | dict(spatial_depth=1, temporal_depth=1, dropout=0.1, emb_dropout=0.1),
    ),
    "vivit_with_moss": (
        "ViViT",
        VIDEO | dict(spatial_depth=1, temporal_depth=1, dropout=0.1, emb_dropout=0.1),
    ),
    "xcit": (
        "XCiT",
        DROPPED | dict(cls_depth=1, layer_dropout=0.05, local_patch_kernel_size=3),
    ),
}


def vit(module: str, name: str, arguments: dict[str, Any]) -> Any:
    """A vision transformer, and the first of the usual shapes that it takes."""
    model = getattr(Lazy(f"vit_pytorch.{module}"), name)(**arguments)
    shapes = ((3, 32, 32), (3, 64, 64), (3, 32), (3, 4, 32, 32))
    return model, first_taken(model, (vectors(*shape) for shape in shapes))


VIT_PYTORCH = Lazy("vit_pytorch")
VIT_MODELS: dict[str, Builder] = {
    module: lambda module=module, spec=spec: vit(module, *spec)  # type: ignore[misc]
    for module, spec in VIT.items()
} | {
    "DistillableViT": lambda: (Lazy("vit_pytorch.distill").DistillableViT(**DROPPED), images()),
    "Extractor": lambda: (
        Lazy("vit_pytorch.extractor").Extractor(VIT_PYTORCH.ViT(**SMALL)),
        images(),
    ),
    "Recorder": lambda: (
        Lazy("vit_pytorch.recorder").Recorder(VIT_PYTORCH.ViT(**SMALL)),
        images(),
    ),
}

# One transformer, many options.

X = Lazy("x_transformers")
LAYERS = dict(dim=32, depth=2, heads=4)


def language(layers: str, wrapper: dict[str, Any] | None = None, **options: Any) -> Any:
    """A language model on a stack of ``Encoder`` or ``Decoder`` layers with these options."""
    stack = getattr(X, layers)(**LAYERS, **options)
    return X.TransformerWrapper(
        num_tokens=100, max_seq_len=64, attn_layers=stack, **(wrapper or {})
    )


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "Decoder, alibi, scale norm": ("Decoder", dict(use_scalenorm=True, alibi_pos_bias=True)),
    "Decoder, dropout": ("Decoder", dict(attn_dropout=0.1, ff_dropout=0.1)),
    "Decoder, dynamic tanh": ("Decoder", dict(use_dynamic_tanh=True)),
    "Decoder, gated residual": ("Decoder", dict(gate_residual=True, ff_glu=True)),
    "Decoder, hyper-connections": ("Decoder", dict(num_residual_streams=2)),
    "Decoder, rotary": ("Decoder", dict(rotary_pos_emb=True)),
    "Decoder, sparse top k, shifted": ("Decoder", dict(attn_sparse_topk=4, shift_tokens=1)),
    "Decoder, T5 bias, norm of queries": (
        "Decoder",
        dict(rel_pos_bias=True, attn_qk_norm=True),
    ),
    "Encoder, layer dropout": ("Encoder", dict(layer_dropout=0.1)),
    "Encoder, macaron": ("Encoder", dict(macaron=True, sandwich_norm=True)),
}
X_MODELS: dict[str, Builder] = {
    name: lambda layers=layers, options=options: (language(layers, **options), tokens())  # type: ignore[misc]
    for name, (layers, options) in OPTIONS.items()
} | {
    "AutoregressiveWrapper, mask_prob": lambda: (
        X.AutoregressiveWrapper(language("Decoder"), mask_prob=0.15),
        tokens(),
    ),
    "AutoregressiveWrapper": lambda: (X.AutoregressiveWrapper(language("Decoder")), tokens()),
    "ContinuousTransformerWrapper": lambda: (
        X.ContinuousTransformerWrapper(
            dim_in=8, dim_out=8, max_seq_len=64, attn_layers=X.Encoder(**LAYERS)
        ),
        vectors(16, 8),
    ),
    "Decoder, memory tokens": lambda: (
        language("Decoder", dict(num_memory_tokens=4, emb_dropout=0.1)),
        tokens(),
    ),
    "ViTransformerWrapper": lambda: (
        X.ViTransformerWrapper(
            image_size=32, patch_size=8, num_classes=10, attn_layers=X.Encoder(**LAYERS)
        ),
        images(),
    ),
    "XTransformer": lambda: (
        X.XTransformer(
            dim=32,
            enc_num_tokens=100,
            enc_depth=2,
            enc_heads=4,
            enc_max_seq_len=32,
            dec_num_tokens=100,
            dec_depth=2,
            dec_heads=4,
            dec_max_seq_len=32,
        ),
        tokens(),
        tokens(),
    ),
}

# Quantisers.

VQ = Lazy("vector_quantize_pytorch")
QUANTISERS: dict[str, tuple[str, dict[str, Any]]] = {
    "FSQ": ("FSQ", dict(dim=16, levels=[8, 5, 5])),
    "GroupedResidualVQ": (
        "GroupedResidualVQ",
        dict(dim=16, codebook_size=16, num_quantizers=2, groups=2),
    ),
    "LFQ": ("LFQ", dict(dim=16, codebook_size=256)),
    "RandomProjectionQuantizer": (
        "RandomProjectionQuantizer",
        dict(dim=16, num_codebooks=2, codebook_dim=8, codebook_size=32),
    ),
    "ResidualFSQ": ("ResidualFSQ", dict(dim=16, levels=[8, 5, 5], num_quantizers=2)),
    "ResidualLFQ": ("ResidualLFQ", dict(dim=16, codebook_size=256, num_quantizers=2)),
    "ResidualSimVQ": ("ResidualSimVQ", dict(dim=16, codebook_size=32, num_quantizers=2)),
    "ResidualVQ": ("ResidualVQ", dict(dim=16, codebook_size=16, num_quantizers=3)),
    "ResidualVQ, implicit codebook": (
        "ResidualVQ",
        dict(dim=16, codebook_size=16, num_quantizers=2, implicit_neural_codebook=True),
    ),
    "ResidualVQ, quantizer dropout": (
        "ResidualVQ",
        dict(dim=16, codebook_size=16, num_quantizers=3, quantize_dropout=True),
    ),
    "ResidualVQ, stochastic": (
        "ResidualVQ",
        dict(
            dim=16,
            codebook_size=16,
            num_quantizers=2,
            stochastic_sample_codes=True,
            sample_codebook_temp=0.1,
            shared_codebook=True,
        ),
    ),
    "SimVQ": ("SimVQ", dict(dim=16, codebook_size=32)),
    "VectorQuantize": ("VectorQuantize", dict(dim=16, codebook_size=32)),
    "VectorQuantize, cosine": (
        "VectorQuantize",
        dict(dim=16, codebook_size=32, use_cosine_sim=True, threshold_ema_dead_code=2),
    ),
    "VectorQuantize, heads": (
        "VectorQuantize",
        dict(
            dim=16,
            codebook_size=32,
            heads=2,
            separate_codebook_per_head=True,
            codebook_dim=8,
        ),
    ),
    "VectorQuantize, k-means": (
        "VectorQuantize",
        dict(dim=16, codebook_size=8, kmeans_init=True),
    ),
    "VectorQuantize, learnable": (
        "VectorQuantize",
        dict(dim=16, codebook_size=32, learnable_codebook=True, ema_update=False),
    ),
    "VectorQuantize, orthogonal": (
        "VectorQuantize",
        dict(dim=16, codebook_size=32, orthogonal_reg_weight=1.0, commitment_weight=0.5),
    ),
    "VectorQuantize, stochastic": (
        "VectorQuantize",
        dict(dim=16, codebook_size=32, stochastic_sample_codes=True, sample_codebook_temp=0.5),
    ),
}
VQ_MODELS: dict[str, Builder] = {
    name: lambda made=made, options=options: (getattr(VQ, made)(**options), vectors(10, 16))  # type: ignore[misc]
    for name, (made, options) in QUANTISERS.items()
} | {
    "BinaryMapper": lambda: (VQ.BinaryMapper(bits=8), vectors(10, 8)),
    "LatentQuantize": lambda: (VQ.LatentQuantize(levels=[5, 5, 8], dim=16), vectors(16, 10)),
}

# One idea each.

LM = dict(num_tokens=100, dim=32, depth=2, heads=4)
DROP = dict(attn_dropout=0.1, ff_dropout=0.1)
DIFFUSION = Lazy("denoising_diffusion_pytorch")
UNET = dict(dim=16, dim_mults=(1, 2))


MODELS: Family = {
    "vit-pytorch": VIT_MODELS,
    "x-transformers": X_MODELS,
    "vector-quantize-pytorch": VQ_MODELS,
    "axial-attention": {
        f"AxialImageTransformer, {name}": lambda reversible=reversible: (  # type: ignore[misc]
            Lazy("axial_attention").AxialImageTransformer(
                dim=16, depth=2, heads=4, reversible=reversible
            ),
            images(16, 8),
        )
        for name, reversible in (("reversible", True), ("plain", False))
    },
    "bs-roformer": {
        "BSRoformer": lambda: (
            Lazy("bs_roformer").BSRoformer(
                dim=16,
                depth=1,
                time_transformer_depth=1,
                freq_transformer_depth=1,
                heads=2,
                dim_head=8,
                flash_attn=False,
                **DROP,
            ),
            torch.randn(4, 4410),
        )
    },
    "colt5-attention": {
        "ConditionalRoutedFeedForward": lambda: (
            Lazy("colt5_attention").ConditionalRoutedFeedForward(32, num_heavy_tokens=4),
            vectors(16, 32),
        )
    },
    "conformer": {
        "Conformer": lambda: (
            Lazy("conformer").Conformer(
                dim=32, depth=2, dim_head=8, heads=4, conv_kernel_size=7, conv_dropout=0.1, **DROP
            ),
            vectors(20, 32),
        )
    },
    "denoising-diffusion-pytorch": {
        "GaussianDiffusion (loss)": lambda: (
            DIFFUSION.GaussianDiffusion(
                DIFFUSION.Unet(**UNET, flash_attn=False), image_size=16, timesteps=10
            ),
            images(3, 16).sigmoid(),
        ),
        "KarrasUnet": lambda: (
            DIFFUSION.KarrasUnet(
                image_size=16,
                dim=16,
                dim_max=32,
                num_downsamples=1,
                num_blocks_per_stage=1,
                attn_res=(8,),
                fourier_dim=16,
                dropout=0.1,
            ),
            images(4, 16),
            torch.rand(6),
        ),
        "Unet": lambda: (
            DIFFUSION.Unet(**UNET, dropout=0.1, flash_attn=False),
            images(3, 16),
            torch.arange(6),
        ),
        "Unet, classifier-free": lambda: (
            Lazy("denoising_diffusion_pytorch.classifier_free_guidance").Unet(
                **UNET, num_classes=10
            ),
            images(3, 16),
            torch.arange(6),
            torch.arange(6),
        ),
        "Unet1D": lambda: (
            DIFFUSION.Unet1D(**UNET, channels=4, dropout=0.1),
            vectors(4, 16),
            torch.arange(6),
        ),
    },
    "egnn-pytorch": {
        "EGNN": lambda: (
            Lazy("egnn_pytorch").EGNN(dim=16, dropout=0.1),
            vectors(8, 16),
            vectors(8, 3),
        ),
        "EGNN_Network": lambda: (
            Lazy("egnn_pytorch").EGNN_Network(
                num_tokens=20,
                num_positions=16,
                dim=16,
                depth=2,
                num_nearest_neighbors=4,
                norm_coors=True,
                dropout=0.1,
            ),
            tokens(8, 20),
            vectors(8, 3),
        ),
    },
    "g-mlp-pytorch": {
        "gMLP": lambda: (
            Lazy("g_mlp_pytorch").gMLP(
                num_tokens=100, dim=32, depth=3, seq_len=16, prob_survival=0.5
            ),
            tokens(),
        ),
        "gMLPVision": lambda: (
            Lazy("g_mlp_pytorch").gMLPVision(
                image_size=32, patch_size=8, num_classes=10, dim=32, depth=3, prob_survival=0.5
            ),
            images(),
        ),
    },
    "itransformer": {
        "iTransformer": lambda: (
            Lazy("iTransformer").iTransformer(
                num_variates=5,
                lookback_len=16,
                dim=32,
                depth=2,
                heads=4,
                dim_head=8,
                pred_length=4,
                num_tokens_per_variate=1,
                use_reversible_instance_norm=True,
                **DROP,
            ),
            vectors(16, 5),
        ),
        "iTransformer2D": lambda: (
            Lazy("iTransformer").iTransformer2D(
                num_variates=5,
                num_time_tokens=4,
                lookback_len=16,
                dim=32,
                depth=1,
                heads=4,
                dim_head=8,
                pred_length=4,
                use_reversible_instance_norm=True,
            ),
            vectors(16, 5),
        ),
    },
    "lambda-networks": {
        "LambdaLayer": lambda: (
            Lazy("lambda_networks").LambdaLayer(dim=16, dim_out=16, r=5, dim_k=8, heads=4, dim_u=2),
            images(16, 8),
        )
    },
    "linear-attention-transformer": {
        "LinearAttentionTransformerLM": lambda: (
            Lazy("linear_attention_transformer").LinearAttentionTransformerLM(
                **LM, max_seq_len=64, emb_dim=16, **DROP
            ),
            tokens(64),
        )
    },
    "linformer": {
        "LinformerLM": lambda: (
            Lazy("linformer").LinformerLM(**LM, seq_len=32, k=8, dropout=0.1),
            tokens(32),
        )
    },
    "local-attention": {
        "LocalTransformer": lambda: (
            Lazy("local_attention").LocalTransformer(
                **LM, max_seq_len=64, local_attn_window_size=8, dim_head=8, **DROP
            ),
            tokens(64),
        )
    },
    "memory-efficient-attention-pytorch": {
        "Transformer": lambda: (
            Lazy("memory_efficient_attention_pytorch.transformer").Transformer(
                num_tokens=50, dim=16, depth=1, max_seq_len=32, heads=2, dim_head=8, causal=True
            ),
            tokens(16, 50),
        )
    },
    "mixture-of-experts": {
        "MoE": lambda: (
            Lazy("mixture_of_experts").MoE(dim=32, num_experts=4, hidden_dim=64),
            vectors(16, 32),
        ),
        "MoE, no second expert": lambda: (
            Lazy("mixture_of_experts").MoE(
                dim=32, num_experts=4, hidden_dim=64, second_policy_eval="none"
            ),
            vectors(16, 32),
        ),
    },
    "mlp-mixer-pytorch": {
        "MLPMixer": lambda: (
            Lazy("mlp_mixer_pytorch").MLPMixer(
                image_size=32,
                channels=3,
                patch_size=8,
                dim=32,
                depth=2,
                num_classes=10,
                dropout=0.1,
            ),
            images(),
        )
    },
    "nystrom-attention": {
        "Nystromformer": lambda: (
            Lazy("nystrom_attention").Nystromformer(
                dim=32, depth=2, heads=4, dim_head=8, num_landmarks=8
            ),
            vectors(32, 32),
        )
    },
    "perceiver-pytorch": {
        "Perceiver": lambda: (
            Lazy("perceiver_pytorch").Perceiver(
                input_channels=3,
                input_axis=2,
                num_freq_bands=4,
                max_freq=8.0,
                depth=2,
                num_latents=8,
                latent_dim=32,
                num_classes=10,
                latent_heads=4,
                latent_dim_head=8,
                **DROP,
            ),
            vectors(8, 8, 3),
        ),
        "PerceiverIO": lambda: (
            Lazy("perceiver_pytorch").PerceiverIO(
                dim=16,
                queries_dim=16,
                logits_dim=10,
                depth=2,
                num_latents=8,
                latent_dim=32,
                latent_heads=4,
                latent_dim_head=8,
                seq_dropout_prob=0.2,
            ),
            vectors(12, 16),
            Keywords(queries=torch.randn(4, 16)),
        ),
    },
    "performer-pytorch": {
        "Performer, generalized": lambda: (
            Lazy("performer_pytorch").Performer(
                dim=32,
                depth=2,
                heads=4,
                dim_head=8,
                generalized_attention=True,
                ff_glu=True,
                use_scalenorm=True,
            ),
            vectors(20, 32),
        ),
        "PerformerLM": lambda: (
            Lazy("performer_pytorch").PerformerLM(
                **LM, max_seq_len=32, emb_dropout=0.1, feature_redraw_interval=4, **DROP
            ),
            tokens(32),
        ),
        "PerformerLM, not redrawn": lambda: (
            Lazy("performer_pytorch").PerformerLM(**LM, max_seq_len=32, auto_check_redraw=False),
            tokens(32),
        ),
    },
    "product-key-memory": {
        "PKM": lambda: (
            Lazy("product_key_memory").PKM(
                dim=32,
                heads=2,
                dim_head=16,
                num_keys=16,
                topk=4,
                input_dropout=0.1,
                value_dropout=0.1,
            ),
            vectors(10, 32),
        ),
    },
    "recurrent-memory-transformer-pytorch": {
        "RecurrentMemoryTransformer": lambda: (
            Lazy("recurrent_memory_transformer_pytorch").RecurrentMemoryTransformer(
                num_tokens=50,
                num_memory_tokens=4,
                dim=16,
                depth=1,
                causal=True,
                dim_head=8,
                heads=2,
                seq_len=16,
            ),
            tokens(16, 50),
        )
    },
    "reformer-pytorch": {
        "LSHSelfAttention": lambda: (
            Lazy("reformer_pytorch").LSHSelfAttention(dim=32, heads=4, bucket_size=8, n_hashes=2),
            vectors(64, 32),
        ),
        "ReformerLM": lambda: (
            Lazy("reformer_pytorch").ReformerLM(
                **LM,
                max_seq_len=64,
                bucket_size=8,
                n_hashes=2,
                lsh_dropout=0.1,
                ff_dropout=0.1,
                causal=True,
            ),
            tokens(64),
        ),
    },
    "routing-transformer": {
        "RoutingTransformerLM": lambda: (
            Lazy("routing_transformer").RoutingTransformerLM(
                **LM, max_seq_len=64, window_size=16, kmeans_ema_decay=0.9, **DROP
            ),
            tokens(64),
        )
    },
    "simple-hierarchical-transformer": {
        "HierarchicalTransformer": lambda: (
            Lazy("simple_hierarchical_transformer").HierarchicalTransformer(
                num_tokens=50,
                dim=16,
                depth=2,
                seq_len=16,
                hierarchies=(1, 2),
                window_sizes=(8, 8),
                dim_head=8,
                heads=2,
            ),
            tokens(16, 50),
        )
    },
    "sinkhorn-transformer": {
        f"SinkhornTransformerLM, {name}": lambda causal=causal: (  # type: ignore[misc]
            Lazy("sinkhorn_transformer").SinkhornTransformerLM(
                **LM, max_seq_len=64, bucket_size=16, causal=causal, **DROP
            ),
            tokens(64),
        )
        for name, causal in (("causal", True), ("both ways", False))
    },
    "soft-moe-pytorch": {
        "DynamicSlotsSoftMoE": lambda: (
            Lazy("soft_moe_pytorch").DynamicSlotsSoftMoE(dim=32, num_experts=4),
            vectors(16, 32),
        ),
        "SoftMoE": lambda: (
            Lazy("soft_moe_pytorch").SoftMoE(dim=32, seq_len=16, num_experts=4),
            vectors(16, 32),
        ),
    },
    "st-moe-pytorch": {
        "MoE": lambda: (
            Lazy("st_moe_pytorch").MoE(
                dim=32, num_experts=4, gating_top_n=2, capacity_factor_eval=2.0
            ),
            vectors(16, 32),
        ),
        "SparseMoEBlock": lambda: (
            Lazy("st_moe_pytorch").SparseMoEBlock(
                Lazy("st_moe_pytorch").MoE(dim=32, num_experts=4, gating_top_n=2),
                add_ff_before=True,
                add_ff_after=True,
            ),
            vectors(16, 32),
        ),
    },
    "tab-transformer-pytorch": {
        name: lambda name=name, more=more: (  # type: ignore[misc]
            getattr(Lazy("tab_transformer_pytorch"), name)(
                categories=(5, 4, 3),
                num_continuous=4,
                dim=16,
                depth=2,
                heads=4,
                dim_out=1,
                **DROP,
                **more,
            ),
            tokens(3, 3),
            vectors(4),
        )
        for name, more in (("TabTransformer", dict(mlp_act=nn.ReLU())), ("FTTransformer", {}))
    },
    "titans-pytorch": {
        "MemoryAsContextTransformer": lambda: (
            Lazy("titans_pytorch").MemoryAsContextTransformer(
                num_tokens=50,
                dim=16,
                depth=2,
                segment_len=8,
                num_persist_mem_tokens=2,
                num_longterm_mem_tokens=2,
                use_flex_attn=False,
                heads=2,
                dim_head=8,
            ),
            tokens(17, 50, batch=4),
        ),
        "NeuralMemory": lambda: (
            Lazy("titans_pytorch").NeuralMemory(dim=16, chunk_size=4),
            vectors(16, 16),
        ),
    },
}
