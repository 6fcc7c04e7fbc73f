"""Speech and music: recognition, separation, codecs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from zoo.entry import Builder, Family, Lazy, empty_as_nan
from zoo.inputs import tokens, vectors

SPEECH = "speechbrain.lobes.models."
ECAPA = dict(
    input_size=16,
    channels=[16, 16, 16, 16, 48],
    kernel_sizes=[5, 3, 3, 3, 1],
    attention_channels=8,
    lin_neurons=8,
    se_channels=8,
    res2net_scale=2,
)
TASNET = dict(N=8, B=8, H=8, P=3, X=2, R=1, C=2)
RNN = dict(hidden_size=16, input_shape=(6, 10, 16), dropout=0.2, num_layers=2)
ENCODER = dict(
    num_layers=2, d_model=32, nhead=4, kernel_size=3, attention_type="regularMHA", dropout=0.1
)

Spec = tuple[str, dict[str, Any], Callable[[], tuple[Any, ...]]]
SPEECHBRAIN: dict[str, Spec] = {
    "BatchNorm1d, batch and time": (
        "speechbrain.nnet.normalization.BatchNorm1d",
        dict(input_size=16, combine_batch_time=True),
        lambda: (vectors(20, 16),),
    ),
    "BranchformerEncoder": (
        SPEECH + "transformer.Branchformer.BranchformerEncoder",
        ENCODER | dict(csgu_linear_units=64),
        lambda: (vectors(20, 32),),
    ),
    "CRDNN": (
        SPEECH + "CRDNN.CRDNN",
        dict(
            input_size=16,
            cnn_blocks=1,
            cnn_channels=(4,),
            rnn_layers=1,
            rnn_neurons=8,
            dnn_blocks=1,
            dnn_neurons=8,
            dropout=0.15,
        ),
        lambda: (vectors(40, 16),),
    ),
    "ConformerEncoder": (
        SPEECH + "transformer.Conformer.ConformerEncoder",
        ENCODER | dict(d_ffn=64),
        lambda: (vectors(20, 32),),
    ),
    "ContextNet": (
        SPEECH + "ContextNet.ContextNet",
        dict(
            input_shape=(6, 40, 16),
            out_channels=16,
            conv_channels=[16],
            kernel_size=3,
            strides=[1],
            num_blocks=1,
            num_layers=2,
        ),
        lambda: (vectors(40, 16),),
    ),
    "Dropout2d": (
        "speechbrain.nnet.dropout.Dropout2d",
        dict(drop_rate=0.3),
        lambda: (vectors(10, 8, 4),),
    ),
    "ECAPA_TDNN": (SPEECH + "ECAPA_TDNN.ECAPA_TDNN", ECAPA, lambda: (vectors(40, 16),)),
    "ECAPA_TDNN, lengths": (
        SPEECH + "ECAPA_TDNN.ECAPA_TDNN",
        ECAPA,
        lambda: (vectors(40, 16), torch.tensor([1.0, 0.5, 0.7, 0.9, 1.0, 0.8])),
    ),
    "Fbank": ("speechbrain.lobes.features.Fbank", dict(n_mels=16), lambda: (vectors(3000),)),
    "GumbelVectorQuantizer": (
        "speechbrain.nnet.quantisers.GumbelVectorQuantizer",
        dict(input_dim=16, num_vars=8, temp_tuple=(2, 0.25, 0.9), groups=2, vq_dim=8),
        lambda: (vectors(10, 16),),
    ),
    "HifiganGenerator": (
        SPEECH + "HifiGAN.HifiganGenerator",
        dict(
            in_channels=16,
            out_channels=1,
            resblock_type="1",
            resblock_dilation_sizes=[[1, 3, 5]],
            resblock_kernel_sizes=[3],
            upsample_kernel_sizes=[4, 4],
            upsample_initial_channel=16,
            upsample_factors=[2, 2],
        ),
        lambda: (vectors(16, 20),),
    ),
    "InputNormalization, sentence": (
        "speechbrain.processing.features.InputNormalization",
        dict(norm_type="sentence"),
        lambda: (vectors(20, 16), torch.ones(6)),
    ),
    "LSTM": ("speechbrain.nnet.RNN.LSTM", RNN, lambda: (vectors(10, 16),)),
    "LiGRU": ("speechbrain.nnet.RNN.LiGRU", RNN, lambda: (vectors(10, 16),)),
    "MaskNet, gLN": (
        SPEECH + "conv_tasnet.MaskNet",
        TASNET | dict(norm_type="gLN"),
        lambda: (vectors(8, 40),),
    ),
    "QLSTM": ("speechbrain.nnet.quaternion_networks.q_RNN.QLSTM", RNN, lambda: (vectors(10, 16),)),
    "QuasiRNN": ("speechbrain.nnet.RNN.QuasiRNN", RNN, lambda: (vectors(10, 16),)),
    "RandomProjectionQuantizer": (
        "speechbrain.nnet.quantisers.RandomProjectionQuantizer",
        dict(input_dim=16, cb_dim=8, cb_vocab=32),
        lambda: (vectors(10, 16),),
    ),
    "ResNet": (
        SPEECH + "ResNet.ResNet",
        dict(input_size=16, channels=[8, 8, 8, 8], lin_neurons=8),
        lambda: (vectors(40, 16),),
    ),
    "SLiGRU": ("speechbrain.nnet.RNN.SLiGRU", RNN, lambda: (vectors(10, 16),)),
    "SincConv": (
        "speechbrain.nnet.CNN.SincConv",
        dict(input_shape=(6, 1600), out_channels=8, kernel_size=11),
        lambda: (vectors(1600),),
    ),
    "Tacotron2 postnet": (
        SPEECH + "Tacotron2.Postnet",
        dict(
            n_mel_channels=16,
            postnet_embedding_dim=16,
            postnet_kernel_size=5,
            postnet_n_convolutions=3,
        ),
        lambda: (vectors(16, 20),),
    ),
    "Tacotron2 prenet": (
        SPEECH + "Tacotron2.Prenet",
        dict(in_dim=16, sizes=[16, 16], dropout=0.5),
        lambda: (vectors(16),),
    ),
    "TransformerASR": (
        SPEECH + "transformer.TransformerASR.TransformerASR",
        dict(
            tgt_vocab=50,
            input_size=16,
            d_model=32,
            nhead=4,
            num_encoder_layers=1,
            num_decoder_layers=1,
            d_ffn=64,
            dropout=0.1,
            causal=False,
        ),
        lambda: (vectors(20, 16), torch.randint(1, 50, (6, 8))),
    ),
    "Xvector": (
        SPEECH + "Xvector.Xvector",
        dict(
            in_channels=16,
            tdnn_channels=[16, 16, 16],
            tdnn_kernel_sizes=[3, 3, 1],
            tdnn_dilations=[1, 1, 1],
            tdnn_blocks=3,
            lin_neurons=8,
        ),
        lambda: (vectors(40, 16),),
    ),
}


def of_speechbrain(path: str, arguments: dict[str, Any], inputs: Callable[[], Any]) -> Any:
    """A class by its full name, made with these arguments."""
    module, _, name = path.rpartition(".")
    return getattr(Lazy(module), name)(**arguments), *inputs()


TWO = dict(n_src=2)
ASTEROID: dict[str, dict[str, Any]] = {
    "ConvTasNet": TWO
    | dict(n_blocks=2, n_repeats=1, bn_chan=8, hid_chan=16, skip_chan=8, n_filters=16),
    "DPRNNTasNet": TWO | dict(n_filters=16, bn_chan=8, hid_size=8, n_repeats=1, chunk_size=10),
    "DPTNet": TWO | dict(n_filters=16, n_heads=4, ff_hid=16, chunk_size=10, n_repeats=1),
    "DeMask": {},
    "LSTMTasNet": TWO | dict(n_filters=16, hid_size=8, n_layers=1),
    "SuDORMRFNet": TWO | dict(bn_chan=8, num_blocks=1, upsampling_depth=2),
}
SNAC = dict(
    sampling_rate=16000,
    encoder_dim=8,
    encoder_rates=[2, 2],
    decoder_dim=32,
    decoder_rates=[2, 2],
    attn_window_size=None,
    codebook_size=32,
    codebook_dim=4,
    vq_strides=[2, 1],
)
SOURCES = (["a", "b"],)
RATE = dict(samplerate=8000, segment=1)
WHISPER = Lazy("whisper.model")


def snac(noise: bool) -> Builder:
    """A codec with or without noise in its decoder."""
    return lambda: (Lazy("snac").SNAC(**SNAC, noise=noise), torch.randn(4, 1, 256))


MODELS: Family = {
    "speechbrain": {
        name: lambda spec=spec: of_speechbrain(*spec)  # type: ignore[misc]
        for name, spec in SPEECHBRAIN.items()
    },
    "asteroid": {
        name: lambda name=name, given=given: (  # type: ignore[misc]
            getattr(Lazy("asteroid.models"), name)(**given),
            vectors(1600),
        )
        for name, given in ASTEROID.items()
    },
    "demucs": {
        "Demucs": lambda: (
            Lazy("demucs.demucs").Demucs(
                *SOURCES,
                channels=8,
                depth=2,
                growth=1.5,
                lstm_layers=1,
                dconv_mode=1,
                resample=False,
                **RATE,
            ),
            torch.randn(4, 2, 2000),
        ),
        "HDemucs": lambda: (
            Lazy("demucs.hdemucs").HDemucs(*SOURCES, channels=8, depth=4, nfft=1024, **RATE),
            torch.randn(4, 2, 8192),
        ),
        "HTDemucs": lambda: (
            Lazy("demucs.htdemucs").HTDemucs(
                *SOURCES,
                channels=8,
                depth=4,
                nfft=1024,
                t_layers=2,
                t_heads=4,
                bottom_channels=32,
                t_dropout=0.1,
                **RATE,
            ),
            torch.randn(4, 2, 8000),
        ),
    },
    "encodec": {
        "EncodecModel": lambda: (
            Lazy("encodec.model").EncodecModel._get_model(
                [1.5],
                sample_rate=24000,
                channels=1,
                causal=True,
                model_norm="weight_norm",
                audio_normalize=False,
            ),
            torch.randn(4, 1, 3200),
        )
    },
    "openai-whisper": {
        "Whisper": lambda: (
            empty_as_nan()(WHISPER.Whisper)(
                WHISPER.ModelDimensions(
                    n_mels=16,
                    n_audio_ctx=32,
                    n_audio_state=32,
                    n_audio_head=4,
                    n_audio_layer=2,
                    n_vocab=100,
                    n_text_ctx=16,
                    n_text_state=32,
                    n_text_head=4,
                    n_text_layer=2,
                )
            ),
            vectors(16, 64),
            tokens(8),
        )
    },
    "snac": {"SNAC": snac(True), "SNAC, no noise": snac(False)},
    "vocos": {
        "VocosBackbone": lambda: (
            Lazy("vocos.models").VocosBackbone(
                input_channels=16, dim=32, intermediate_dim=64, num_layers=2
            ),
            vectors(16, 20),
        ),
        "VocosResNetBackbone": lambda: (
            Lazy("vocos.models").VocosResNetBackbone(input_channels=16, dim=32, num_blocks=2),
            vectors(16, 20),
        ),
    },
}
