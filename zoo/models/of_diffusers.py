"""Hugging Face diffusers: denoisers and autoencoders."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from zoo.entry import Family, Keywords, Lazy
from zoo.inputs import images, vectors

DIFFUSERS = Lazy("diffusers")
TWO = dict(block_out_channels=(16, 16))
DOWN, UP = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
ENCODED = dict(down_block_types=DOWN, up_block_types=UP)
TEXT = dict(cross_attention_dim=16)
HEADS = dict(num_attention_heads=2, attention_head_dim=8)


def steps(batch: int = 6) -> Any:
    """A time for each sample."""
    return torch.arange(batch)


Spec = tuple[dict[str, Any], Callable[[], dict[str, Any]]]
SPECS: dict[str, Spec] = {
    "AsymmetricAutoencoderKL": (
        dict(
            down_block_types=DOWN,
            down_block_out_channels=(16, 16),
            up_block_types=UP,
            up_block_out_channels=(16, 16),
            layers_per_down_block=1,
            layers_per_up_block=1,
            norm_num_groups=4,
            sample_size=32,
        ),
        lambda: dict(sample=images()),
    ),
    "AuraFlowTransformer2DModel": (
        HEADS
        | dict(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            caption_projection_dim=16,
            joint_attention_dim=16,
            out_channels=4,
            pos_embed_max_size=64,
        ),
        lambda: dict(
            hidden_states=images(4, 16),
            encoder_hidden_states=vectors(5, 16),
            timestep=torch.rand(6),
        ),
    ),
    "AutoencoderDC": (
        dict(
            in_channels=3,
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.4,
        ),
        lambda: dict(sample=images()),
    ),
    "AutoencoderKL": (
        TWO | ENCODED | dict(latent_channels=4, norm_num_groups=4, sample_size=32),
        lambda: dict(sample=images()),
    ),
    "AutoencoderKL, sampled": (
        TWO | ENCODED | dict(latent_channels=4, norm_num_groups=4, sample_size=32),
        lambda: dict(sample=images(), sample_posterior=True),
    ),
    "AutoencoderKLCogVideoX": (
        dict(
            in_channels=3,
            out_channels=3,
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            temporal_compression_ratio=4,
        ),
        lambda: dict(sample=torch.randn(4, 3, 5, 16, 16)),
    ),
    "AutoencoderKLHunyuanVideo": (
        dict(
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            down_block_types=("HunyuanVideoDownBlock3D",) * 4,
            up_block_types=("HunyuanVideoUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            act_fn="silu",
            norm_num_groups=4,
        ),
        lambda: dict(sample=torch.rand(4, 3, 9, 16, 16)),
    ),
    "AutoencoderKLLTXVideo": (
        dict(
            in_channels=3,
            out_channels=3,
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 1, 1, 1, 1),
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            decoder_inject_noise=(False,) * 5,
            upsample_residual=(False,) * 4,
            upsample_factor=(1,) * 4,
            timestep_conditioning=False,
            patch_size=1,
            patch_size_t=1,
            encoder_causal=True,
            decoder_causal=False,
        ),
        lambda: dict(sample=torch.rand(4, 3, 9, 16, 16)),
    ),
    "AutoencoderKLMagvit": (
        dict(
            in_channels=3,
            latent_channels=4,
            out_channels=3,
            block_out_channels=[8, 8, 8, 8],
            down_block_types=["SpatialDownBlock3D", *["SpatialTemporalDownBlock3D"] * 3],
            up_block_types=["SpatialUpBlock3D", *["SpatialTemporalUpBlock3D"] * 3],
            layers_per_block=1,
            norm_num_groups=8,
            spatial_group_norm=True,
        ),
        lambda: dict(sample=torch.rand(4, 3, 9, 16, 16)),
    ),
    "AutoencoderKLTemporalDecoder": (
        dict(
            block_out_channels=(32, 32),
            down_block_types=DOWN,
            latent_channels=4,
            layers_per_block=1,
        ),
        lambda: dict(sample=images(), num_frames=1),
    ),
    "AutoencoderKLWan": (
        dict(
            base_dim=3,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ),
        lambda: dict(sample=torch.randn(4, 3, 9, 16, 16)),
    ),
    "AutoencoderOobleck": (
        dict(
            encoder_hidden_size=12,
            decoder_channels=12,
            decoder_input_channels=6,
            audio_channels=2,
            downsampling_ratios=[2, 4],
            channel_multiples=[1, 2],
        ),
        lambda: dict(sample=vectors(2, 64)),
    ),
    "AutoencoderTiny": (
        dict(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ),
        lambda: dict(sample=torch.rand(6, 3, 32, 32)),
    ),
    "CogVideoXTransformer3DModel": (
        HEADS
        | dict(
            in_channels=4,
            out_channels=4,
            time_embed_dim=2,
            text_embed_dim=8,
            num_layers=2,
            sample_width=8,
            sample_height=8,
            sample_frames=8,
            patch_size=2,
            temporal_compression_ratio=4,
            max_text_seq_length=8,
            dropout=0.1,
        ),
        lambda: dict(
            hidden_states=vectors(1, 4, 8, 8), encoder_hidden_states=vectors(8, 8), timestep=steps()
        ),
    ),
    "ConsistencyDecoderVAE": (
        dict(
            encoder_block_out_channels=(16, 16),
            encoder_down_block_types=DOWN,
            decoder_add_attention=False,
            decoder_block_out_channels=(16, 16),
            decoder_down_block_types=("ResnetDownsampleBlock2D",) * 2,
            decoder_downsample_padding=1,
            decoder_in_channels=7,
            decoder_layers_per_block=1,
            decoder_norm_eps=1e-5,
            decoder_norm_num_groups=4,
            encoder_norm_num_groups=4,
            decoder_num_train_timesteps=1024,
            decoder_out_channels=6,
            decoder_resnet_time_scale_shift="scale_shift",
            decoder_time_embedding_type="learned",
            decoder_up_block_types=("ResnetUpsampleBlock2D",) * 2,
            scaling_factor=1,
            latent_channels=4,
        ),
        lambda: dict(sample=images(batch=4)),
    ),
    "ControlNetModel": (
        TWO
        | TEXT
        | dict(
            layers_per_block=1,
            in_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            conditioning_embedding_out_channels=(8, 8),
            norm_num_groups=4,
            attention_head_dim=4,
        ),
        lambda: dict(
            sample=images(4, 16),
            timestep=steps(),
            encoder_hidden_states=vectors(5, 16),
            controlnet_cond=images(),
        ),
    ),
    "DiTTransformer2DModel": (
        HEADS
        | dict(
            in_channels=4,
            num_layers=2,
            sample_size=8,
            num_embeds_ada_norm=10,
            norm_type="ada_norm_zero",
        ),
        lambda: dict(hidden_states=images(4, 8), timestep=steps(), class_labels=steps()),
    ),
    "FluxTransformer2DModel": (
        dict(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=[4, 4, 8],
        ),
        lambda: dict(
            hidden_states=vectors(16, 4),
            encoder_hidden_states=vectors(5, 16),
            pooled_projections=vectors(16),
            timestep=torch.rand(6),
            img_ids=torch.randn(16, 3),
            txt_ids=torch.randn(5, 3),
        ),
    ),
    "PixArtTransformer2DModel": (
        HEADS
        | TEXT
        | dict(
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=8,
            caption_channels=8,
            use_additional_conditions=False,
        ),
        lambda: dict(
            hidden_states=images(4, 8),
            timestep=steps(),
            encoder_hidden_states=vectors(5, 8),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ),
    ),
    "PriorTransformer": (
        HEADS | dict(num_layers=2, embedding_dim=8, num_embeddings=7, additional_embeddings=4),
        lambda: dict(
            hidden_states=vectors(8),
            timestep=steps(),
            proj_embedding=vectors(8),
            encoder_hidden_states=vectors(7, 8),
        ),
    ),
    "SD3Transformer2DModel": (
        HEADS
        | dict(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            num_layers=2,
            joint_attention_dim=16,
            caption_projection_dim=16,
            pooled_projection_dim=16,
            out_channels=4,
        ),
        lambda: dict(
            hidden_states=images(4, 16),
            encoder_hidden_states=vectors(5, 16),
            pooled_projections=vectors(16),
            timestep=steps(),
        ),
    ),
    "T2IAdapter": (
        dict(
            in_channels=3,
            channels=[8, 8],
            num_res_blocks=1,
            downscale_factor=8,
            adapter_type="full_adapter",
        ),
        lambda: dict(x=images()),
    ),
    "T5FilmDecoder": (
        dict(
            input_dims=8,
            targets_length=16,
            max_decoder_noise_time=2000.0,
            d_model=16,
            num_layers=1,
            num_heads=2,
            d_kv=8,
            d_ff=16,
            dropout_rate=0.1,
        ),
        lambda: dict(
            encodings_and_masks=[(vectors(5, 16), torch.ones(6, 5))],
            decoder_input_tokens=vectors(16, 8),
            decoder_noise_time=torch.rand(6),
        ),
    ),
    "Transformer2DModel": (
        HEADS
        | dict(in_channels=16, num_layers=1, norm_num_groups=4, cross_attention_dim=8, dropout=0.1),
        lambda: dict(hidden_states=images(16, 8), encoder_hidden_states=vectors(4, 8)),
    ),
    "UNet2DConditionModel": (
        TWO
        | TEXT
        | dict(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=4,
            dropout=0.1,
        ),
        lambda: dict(sample=images(4, 16), timestep=steps(), encoder_hidden_states=vectors(5, 16)),
    ),
    "UNet2DModel": (
        TWO
        | dict(
            sample_size=16,
            in_channels=3,
            out_channels=3,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=8,
            dropout=0.1,
        ),
        lambda: dict(sample=images(3, 16), timestep=steps()),
    ),
    "UNetSpatioTemporalConditionModel": (
        TEXT
        | dict(
            block_out_channels=(32, 32),
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            num_attention_heads=2,
            out_channels=4,
            in_channels=4,
            layers_per_block=1,
            sample_size=16,
            projection_class_embeddings_input_dim=96,
            addition_time_embed_dim=32,
        ),
        lambda: dict(
            sample=torch.randn(4, 2, 4, 16, 16),
            timestep=steps(4),
            encoder_hidden_states=torch.randn(4, 1, 16),
            added_time_ids=torch.rand(4, 3),
        ),
    ),
    "UVit2DModel": (
        dict(
            hidden_size=32,
            use_bias=False,
            hidden_dropout=0.1,
            cond_embed_dim=32,
            micro_cond_encode_dim=2,
            micro_cond_embed_dim=10,
            encoder_hidden_size=32,
            vocab_size=32,
            codebook_size=32,
            in_channels=32,
            block_out_channels=32,
            num_res_blocks=1,
            downsample=True,
            upsample=True,
            block_num_heads=1,
            num_hidden_layers=1,
            num_attention_heads=1,
            attention_dropout=0.1,
            intermediate_size=32,
        ),
        lambda: dict(
            input_ids=torch.randint(0, 32, (6, 4, 4)),
            encoder_hidden_states=vectors(5, 32),
            pooled_text_emb=vectors(32),
            micro_conds=torch.randint(0, 9, (6, 5)).float(),
        ),
    ),
    "VQModel": (
        TWO | ENCODED | dict(latent_channels=3, norm_num_groups=4, num_vq_embeddings=16),
        lambda: dict(sample=images()),
    ),
}


def build(name: str, config: dict[str, Any], inputs: Callable[[], dict[str, Any]]) -> Any:
    """Make a model of a class, which is what stands before a comma in its name."""
    model = getattr(DIFFUSERS, name.partition(",")[0])(**config)
    plain = (
        {"return_dict": False}
        if "return_dict" in inspect.signature(model.forward).parameters
        else {}
    )
    return model, Keywords(inputs() | plain)


MODELS: Family = {
    "diffusers": {
        name: lambda name=name, spec=spec: build(name, *spec)  # type: ignore[misc]
        for name, spec in SPECS.items()
    }
}
