"""Hugging Face transformers: every model type of its mapping, shrunk from its default config.

A type that the shrinking alone does not serve has a line in ``MENDED`` (what to set besides),
``CONFIGS`` (all that is passed, nothing shrunk) or ``INPUTS``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from zoo.entry import Builder, Keywords, Lazy, first_taken
from zoo.examine import widen
from zoo.inputs import BATCH, vectors
from zoo.shrink import VOCABULARY, shrunk

transformers = Lazy("transformers")
LENGTH, SHORT = 12, 7
"""Of a sentence, and of the decoder's."""


def text(length: int = LENGTH) -> Tensor:
    """Tokens that are not special ones."""
    return torch.randint(5, 80, (BATCH, length))


def padding(length: int = LENGTH) -> Tensor:
    """A mask of sentences of unlike lengths."""
    lengths = length - torch.arange(BATCH) % 4
    return (torch.arange(length) < lengths[:, None]).long()


def ones(*shape: int) -> Tensor:
    """A mask that hides nothing."""
    return torch.ones(BATCH, *shape, dtype=torch.long)


# What is set besides.

LATENT_ATTENTION = dict(
    qk_rope_head_dim=8,
    qk_nope_head_dim=8,
    v_head_dim=8,
    num_key_value_heads=4,
    q_lora_rank=16,
    kv_lora_rank=16,
    head_dim=8,
)
SECTIONS = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [1, 1, 2],
        "partial_rotary_factor": 1.0,
    }
}
MENDED: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        [
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "axk1",
            "axk2",
            "bailing_hybrid",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "minicpm3",
            "longcat_flash",
            "sarvam_mla",
            "mistral_large4_text",
        ],
        LATENT_ATTENTION,
    ),
    **dict.fromkeys(
        [
            "qwen2_vl_text",
            "qwen2_5_vl_text",
            "glm4v_text",
            "glm_ocr_text",
            "glm_image_text",
            "glm4v_moe_text",
        ],
        SECTIONS,
    ),
    "bros": dict(hidden_size=128),
    "codegen": dict(rotary_dim=4),
    "dots1": dict(intermediate_size=64),
    "gptj": dict(rotary_dim=4),
    "hunyuan_v1_dense": dict(head_dim=8),
    "lilt": dict(hidden_size=48),
    "mamba2": dict(
        num_heads=8, head_dim=8, hidden_size=32, expand=2, state_size=8, n_groups=2, chunk_size=4
    ),
    "ministral": dict(head_dim=8),
    "moonshine": dict(encoder_num_key_value_heads=4, decoder_num_key_value_heads=4),
    "nemotron": dict(head_dim=8, num_key_value_heads=2),
}

# All that is passed.

TEXT = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=64,
)
POSITIONS = dict(max_position_embeddings=64)
DETR = dict(
    use_timm_backbone=False,
    use_pretrained_backbone=False,
    backbone=None,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=64,
    decoder_ffn_dim=64,
    num_queries=8,
    num_labels=4,
)
SERIES = dict(
    prediction_length=4,
    context_length=8,
    input_size=1,
    lags_sequence=[1, 2],
    num_time_features=1,
    num_static_categorical_features=1,
    cardinality=[5],
    embedding_dimension=[4],
    d_model=16,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_ffn_dim=32,
)
SWIN = dict(
    image_size=32, patch_size=2, embed_dim=16, depths=[1, 2], num_heads=[2, 2], window_size=4
)
EFFICIENTNET = dict(image_size=64, width_coefficient=0.25, depth_coefficient=0.2, hidden_dim=320)
RESNET = dict(
    model_type="resnet", embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1]
)
LAST = RESNET | dict(out_features=["stage4"])
LAST_THREE = RESNET | dict(out_features=["stage2", "stage3", "stage4"])
CONFIGS: dict[str, dict[str, Any]] = {
    "align": dict(text_config=TEXT, vision_config=EFFICIENTNET, projection_dim=80),
    "autoformer": SERIES | dict(label_length=4),
    **dict.fromkeys(("informer", "time_series_transformer"), SERIES),
    "bit": dict(embedding_size=8, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], num_groups=4),
    "clap": dict(
        text_config=TEXT | POSITIONS | dict(projection_dim=16, pad_token_id=1),
        audio_config=dict(
            spec_size=64,
            num_mel_bins=16,
            window_size=4,
            patch_size=4,
            patch_stride=[4, 4],
            patch_embeds_hidden_size=16,
            depths=[1, 1],
            num_attention_heads=[2, 2],
            hidden_size=32,
            projection_dim=16,
            num_hidden_layers=2,
            fusion_num_hidden_layers=1,
        ),
        projection_dim=16,
    ),
    **dict.fromkeys(
        ("detr", "table-transformer", "conditional_detr"),
        DETR | dict(d_model=32, backbone_config=LAST),
    ),
    "dab-detr": DETR | dict(hidden_size=32, backbone_config=LAST),
    "dac": dict(
        encoder_hidden_size=8,
        downsampling_ratios=[4, 4],
        upsampling_ratios=[4, 4],
        decoder_hidden_size=16,
        n_codebooks=2,
        codebook_size=16,
        codebook_dim=4,
        hidden_size=32,
    ),
    "decision_transformer": dict(
        state_dim=5,
        act_dim=3,
        hidden_size=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        max_ep_len=20,
    ),
    "deformable_detr": DETR
    | dict(
        d_model=32,
        backbone_config=LAST_THREE,
        num_feature_levels=3,
        encoder_n_points=2,
        decoder_n_points=2,
    ),
    "donut-swin": SWIN,
    "efficientnet": EFFICIENTNET,
    "encodec": dict(
        num_filters=4,
        hidden_size=16,
        codebook_size=16,
        codebook_dim=16,
        upsampling_ratios=[4, 4],
        target_bandwidths=[24.0],
        num_lstm_layers=1,
    ),
    "esm": TEXT
    | POSITIONS
    | dict(
        vocab_size=33,
        mask_token_id=32,
        pad_token_id=1,
        position_embedding_type="rotary",
        token_dropout=True,
        emb_layer_norm_before=True,
    ),
    "fastspeech2_conformer": dict(
        hidden_size=32,
        vocab_size=VOCABULARY,
        num_mel_bins=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_linear_units=32,
        decoder_linear_units=32,
        duration_predictor_layers=1,
        duration_predictor_channels=16,
        energy_predictor_layers=1,
        energy_predictor_channels=16,
        pitch_predictor_layers=1,
        pitch_predictor_channels=16,
        speech_decoder_postnet_layers=2,
        speech_decoder_postnet_units=16,
    ),
    "gpt_neo": POSITIONS
    | dict(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=4,
        intermediate_size=64,
        bos_token_id=98,
        eos_token_id=98,
    ),
    "layoutlmv3": TEXT
    | POSITIONS
    | dict(
        hidden_size=36,
        coordinate_size=6,
        shape_size=6,
        input_size=32,
        patch_size=8,
        has_relative_attention_bias=True,
        has_spatial_attention_bias=True,
    ),
    "mask2former": dict(
        backbone_config=dict(
            model_type="swin",
            image_size=32,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=64,
        encoder_layers=2,
        decoder_layers=2,
        num_attention_heads=4,
        dim_feedforward=64,
        num_queries=6,
        num_labels=3,
    ),
    "mimi": dict(
        num_filters=4,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=8,
        intermediate_size=32,
        codebook_size=16,
        codebook_dim=16,
        vector_quantization_hidden_dimension=16,
        upsample_groups=32,
        upsampling_ratios=[4, 4],
        num_quantizers=4,
        frame_rate=750.0,
        sampling_rate=24000,
        num_semantic_quantizers=1,
        max_position_embeddings=128,
    ),
    "mobilebert": TEXT
    | POSITIONS
    | dict(embedding_size=32, intra_bottleneck_size=32, true_hidden_size=32),
    "patchtsmixer": dict(
        context_length=32,
        patch_length=8,
        patch_stride=8,
        num_input_channels=3,
        d_model=16,
        num_layers=2,
        prediction_length=8,
    ),
    "patchtst": dict(
        context_length=32,
        patch_length=8,
        patch_stride=8,
        num_input_channels=3,
        d_model=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
        norm_type="batchnorm",
        do_mask_input=False,
    ),
    "reformer": dict(
        vocab_size=VOCABULARY,
        hidden_size=32,
        attention_head_size=8,
        num_attention_heads=4,
        feed_forward_size=64,
        attn_layers=["local", "lsh"],
        local_attn_chunk_length=4,
        lsh_attn_chunk_length=4,
        num_hashes=2,
        num_buckets=2,
        axial_pos_embds=True,
        axial_pos_shape=[4, 8],
        axial_pos_embds_dim=[16, 16],
        max_position_embeddings=32,
        is_decoder=True,
        pad_token_id=0,
        eos_token_id=2,
        hash_seed=None,
    ),
    "speecht5": dict(
        vocab_size=VOCABULARY,
        hidden_size=32,
        encoder_layers=2,
        encoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
        conv_dim=[16, 16],
        conv_stride=[4, 4],
        conv_kernel=[8, 8],
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        num_mel_bins=16,
        speech_decoder_prenet_units=32,
        speech_decoder_postnet_units=32,
        speaker_embedding_dim=16,
        max_speech_positions=200,
        max_text_positions=64,
    ),
    "splinter": TEXT | POSITIONS,
    "swin": SWIN,
    "textnet": dict(
        stem_out_channels=8,
        hidden_sizes=[8] * 5,
        image_size=[32, 32],
        conv_layer_kernel_sizes=[[[3, 3]]] * 4,
        conv_layer_strides=[[2]] * 4,
    ),
    "timesfm": dict(
        patch_length=8,
        context_length=32,
        horizon_length=8,
        num_hidden_layers=2,
        hidden_size=32,
        intermediate_size=32,
        head_dim=8,
        num_attention_heads=4,
    ),
    "tvp": TEXT
    | POSITIONS
    | dict(
        backbone_config=LAST,
        backbone=None,
        num_frames=2,
        max_img_size=64,
        visual_prompt_size=8,
        max_grid_col_position_embeddings=10,
        max_grid_row_position_embeddings=10,
    ),
    "vits": dict(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=32,
        flow_size=16,
        spectrogram_bins=17,
        prior_encoder_num_flows=2,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        upsample_initial_channel=16,
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3]],
        duration_predictor_num_flows=2,
        depth_separable_num_layers=1,
    ),
}


def sentence(**more: Tensor) -> Keywords:
    """A batch of padded sentences, and what else the model takes."""
    return Keywords(input_ids=text(), attention_mask=padding(), **more)


def pictures(size: int, channels: int = 3) -> Tensor:
    """A smaller batch of noise: these models are slow."""
    return torch.randn(4, channels, size, size)


def masked_pictures(config: Any) -> Keywords:
    """Images that fill the batch's canvas."""
    mask = torch.ones(4, 64, 64, dtype=torch.long)
    return Keywords(pixel_values=pictures(64), pixel_mask=mask)


def series(config: Any, steps: int = 10) -> Keywords:
    """Past and future of a series with one feature of time."""
    return Keywords(
        past_values=vectors(steps),
        past_time_features=vectors(steps, 1),
        past_observed_mask=torch.ones(BATCH, steps),
        static_categorical_features=torch.randint(0, 5, (BATCH, 1)),
        future_values=vectors(4),
        future_time_features=vectors(4, 1),
    )


def boxes() -> Tensor:
    """The place of each word on a page, x before y, ordered."""
    corners = torch.randint(0, 500, (BATCH, LENGTH, 2, 2)).sort(2)[0]
    return corners.flatten(2)


INPUTS: dict[str, Callable[[Any], Keywords]] = {
    "align": lambda config: sentence(pixel_values=torch.randn(BATCH, 3, 64, 64)),
    **dict.fromkeys(("autoformer", "informer", "time_series_transformer"), series),
    "bros": lambda config: sentence(bbox=torch.rand(BATCH, LENGTH, 8)),
    "clap": lambda config: sentence(input_features=vectors(1, 256, 16)),
    **dict.fromkeys(
        ("detr", "table-transformer", "conditional_detr", "dab-detr", "deformable_detr"),
        masked_pictures,
    ),
    "dac": lambda config: Keywords(input_values=vectors(1, 320)),
    "decision_transformer": lambda config: Keywords(
        states=vectors(7, 5),
        actions=vectors(7, 3),
        rewards=vectors(7, 1),
        returns_to_go=vectors(7, 1),
        timesteps=torch.randint(0, 19, (BATCH, 7)),
        attention_mask=ones(7),
    ),
    "encodec": lambda config: Keywords(input_values=vectors(1, 640)),
    "esm": lambda config: Keywords(
        input_ids=torch.randint(4, 30, (BATCH, LENGTH)), attention_mask=padding()
    ),
    "fastspeech2_conformer": lambda config: Keywords(input_ids=text(), attention_mask=ones(LENGTH)),
    "layoutlmv3": lambda config: sentence(bbox=boxes(), pixel_values=vectors(3, 32, 32)),
    "lxmert": lambda config: sentence(
        visual_feats=vectors(5, config.visual_feat_dim), visual_pos=torch.rand(BATCH, 5, 4)
    ),
    "mask2former": lambda config: Keywords(pixel_values=pictures(64)),
    "mimi": lambda config: Keywords(input_values=torch.randn(4, 1, 640)),
    **dict.fromkeys(
        ("patchtst", "patchtsmixer"), lambda config: Keywords(past_values=vectors(32, 3))
    ),
    "perceiver": lambda config: Keywords(inputs=vectors(LENGTH, config.d_model)),
    "reformer": lambda config: Keywords(input_ids=text(32), attention_mask=ones(32)),
    "siglip2_vision_model": lambda config: Keywords(
        pixel_values=vectors(16, 3 * config.patch_size**2),
        pixel_attention_mask=ones(16),
        spatial_shapes=torch.tensor([[4, 4]] * BATCH),
    ),
    "speecht5": lambda config: Keywords(
        input_values=vectors(LENGTH, 32), decoder_input_values=vectors(6, 32)
    ),
    "SpeechT5ForTextToSpeech": lambda config: sentence(
        decoder_input_values=vectors(6, 16), speaker_embeddings=vectors(16)
    ),
    "textnet": lambda config: Keywords(pixel_values=vectors(3, 64, 64)),
    "tvp": lambda config: Keywords(
        input_ids=text(), attention_mask=ones(LENGTH), pixel_values=vectors(2, 3, 64, 64)
    ),
    "videoprism": lambda config: Keywords(
        input_ids=text(), pixel_values_videos=vectors(4, 3, 32, 32)
    ),
}


def asked(config: Any, *names: str, default: Any) -> Any:
    """The first of these that a configuration, or one nested in it, sets."""
    nested = ("vision_config", "text_config", "audio_config", "encoder", "encoder_config")
    for place in (config, *(getattr(config, name, None) for name in nested)):
        for name in names:
            if not isinstance(place, dict) and getattr(place, name, None) is not None:
                return getattr(place, name)
    return default


def guesses(model: nn.Module, config: Any) -> Iterator[Keywords]:
    """Inputs that a model of this signature may take, the likeliest first."""
    names = set(inspect.signature(model.forward).parameters)
    more = Keywords(decoder_input_ids=text(SHORT)) if "decoder_input_ids" in names else Keywords()
    if "use_cache" in names:
        more["use_cache"] = False
    words = Keywords()
    if "input_ids" in names:
        words["input_ids"] = text()
        if "attention_mask" in names:
            words["attention_mask"] = padding()
    frames = asked(config, "num_frames", "frames_per_clip", default=4)
    if "pixel_values" in names:
        for size in _sizes(config):
            yield Keywords(**words, pixel_values=vectors(*_channels(config), *size), **more)
        yield Keywords(pixel_values=vectors(frames, 3, 32, 32), **more)
    if words:
        yield Keywords(**words, **more)
    if "pixel_values_videos" in names:
        yield Keywords(pixel_values_videos=vectors(frames, 3, 32, 32))
    if "input_values" in names:
        for samples in (800, 1600, 4000):
            yield Keywords(input_values=vectors(samples), **more)
            yield Keywords(input_values=vectors(1, samples), **more)
        bins = asked(config, "num_mel_bins", "feature_size", default=16)
        yield Keywords(input_values=vectors(asked(config, "max_length", default=64), bins))
    if "input_features" in names:
        for shape in _spectra(config):
            yield Keywords(input_features=vectors(*shape), **more)
            if "attention_mask" in names:
                mask = ones(max(shape))
                yield Keywords(input_features=vectors(*shape), attention_mask=mask, **more)
    if "hidden_states" in names:
        yield Keywords(hidden_states=vectors(LENGTH, asked(config, "hidden_size", default=32)))
    if "past_values" in names:
        steps = asked(config, "context_length", default=32)
        channels = asked(config, "num_input_channels", default=1)
        yield Keywords(past_values=vectors(steps, channels))
    if "inputs" in names:
        yield Keywords(inputs=text())


def _channels(config: Any) -> tuple[int]:
    channels = asked(config, "num_channels", "in_channels", "in_chans", default=3)
    return (channels if isinstance(channels, int) else 3,)


def _sizes(config: Any) -> Iterator[tuple[int, int]]:
    """Height and width: as configured, and then larger and larger."""
    size = asked(config, "image_size", "img_size", default=32)
    if isinstance(size, dict):
        size = (size.get("height", 32), size.get("width", 32))
    yield tuple((list(size) * 2)[:2]) if isinstance(size, (list, tuple)) else (size, size)  # type: ignore[misc]
    for other in (32, 64, 128, 224):
        yield other, other


def _spectra(config: Any) -> Iterator[tuple[int, int]]:
    """Shapes of a spectrogram: bins before steps, and steps before bins."""
    bins = asked(
        config, "num_mel_bins", "n_mels", "feature_size", "input_feat_per_channel",
        "feature_projection_input_dim", "input_feat_size", default=80,
    )  # fmt: skip
    yield bins, 2 * asked(config, "max_source_positions", default=64)
    yield bins, 64
    yield 64, bins
    yield 128, bins
    yield 64, 160


def small_config(model_type: str) -> Any:
    """The configuration of a model type, small."""
    made_by = CONFIG_MAPPING[model_type]
    if model_type in CONFIGS:
        return made_by(**CONFIGS[model_type])
    mended = MENDED.get(model_type, {})
    return made_by(**shrunk(made_by().to_dict(), mended) | _at_the_top(mended))


def _at_the_top(mended: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in mended.items() if "." not in name}


def made(model_type: str, class_name: str, **settings: Any) -> tuple[nn.Module, Any]:
    """Make a small model, its weights scaled, and the configuration that it is made from."""
    config = small_config(model_type)
    for name, value in settings.items():
        setattr(config, name, value)
    return widen(getattr(transformers, class_name)(config).float()), config


def build(model_type: str, class_name: str, **settings: Any) -> tuple[nn.Module, Keywords]:
    """Make a small model of a class, and inputs that it takes.

    Parameters
    ----------
    model_type
        As the mapping of transformers calls it.
    class_name
        A class of transformers.
    settings
        Changes of the small configuration.
    """
    model, config = made(model_type, class_name, **settings)
    make_inputs = INPUTS.get(class_name, INPUTS.get(model_type))
    if make_inputs is not None:
        return model, make_inputs(config)
    return model, first_taken(model, guesses(model, config))


TASKS = (
    "PRETRAINING", "MASKED_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_CLASSIFICATION",
    "AUDIO_CLASSIFICATION", "CTC", "SEMANTIC_SEGMENTATION", "DEPTH_ESTIMATION",
    "OBJECT_DETECTION", "TEXT_TO_WAVEFORM", "TEXT_TO_SPECTROGRAM", "TIME_SERIES_PREDICTION",
)  # fmt: skip
"""Heads that do more than a linear layer on top of the model."""


def _of_the_mappings() -> dict[str, Builder]:
    """The model itself of every type, and its heads."""
    found: dict[str, Builder] = {}
    names = (f"MODEL_FOR_{task}_MAPPING_NAMES" for task in TASKS)
    for mapping in (MODEL_MAPPING_NAMES, *(getattr(modeling_auto, name, {}) for name in names)):
        for model_type, classes in mapping.items():
            name = classes if isinstance(classes, str) else classes[0]
            found[f"{model_type}/{name}"] = partial(build, model_type, name)
    return found


def longer(length: int, model_type: str, class_name: str, **settings: Any) -> Any:
    """A model that is given whole sentences of this length."""
    model, _ = made(model_type, class_name, **settings)
    return model, Keywords(input_ids=text(length), attention_mask=ones(length))


def with_experts(policy: str) -> Any:
    """A mixture of experts that chooses the second one in this way."""
    names = ("nllb-moe", "NllbMoeModel")
    model, _ = build(*names, second_expert_policy=policy, encoder_sparse_step=1, num_experts=4)
    return model, Keywords(input_ids=text(), decoder_input_ids=text(SHORT))


def far_back() -> Any:
    """An Informer that looks back so far that it does not attend to all."""
    given = SERIES | dict(context_length=48, num_static_categorical_features=0, sampling_factor=2)
    config = CONFIG_MAPPING["informer"](**given | dict(cardinality=None, embedding_dimension=None))
    inputs = series(config, 50)
    del inputs["static_categorical_features"]
    return widen(transformers.InformerModel(config)), inputs


BY_HAND: dict[str, Builder] = {
    "big_bird/BigBirdModel, block sparse": lambda: longer(
        96, "big_bird", "BigBirdModel", block_size=4, num_random_blocks=2
    ),
    "informer/InformerModel, long context": far_back,
    "nllb-moe/NllbMoeModel, random second expert": lambda: with_experts("random"),
    "nystromformer/NystromformerModel, landmarks": lambda: longer(
        16,
        "nystromformer",
        "NystromformerModel",
        num_landmarks=4,
        segment_means_seq_len=16,
        conv_kernel_size=5,
    ),
    "patchtst/PatchTSTForPretraining, masked": partial(
        build, "patchtst", "PatchTSTForPretraining", do_mask_input=True
    ),
}
MODELS: dict[str, dict[str, Builder]] = {"transformers": _of_the_mappings() | BY_HAND}
