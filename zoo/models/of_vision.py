"""Networks for images: classifiers, segmentation, features, self-supervision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.entry import Builder, Family, Keywords, Lazy, Through, empty_as_nan, first_taken
from zoo.inputs import images, tokens, vectors

TIMM = [
    "test_byobnet",
    "test_convnext",
    "test_convnext2",
    "test_convnext3",
    "test_efficientnet",
    "test_efficientnet_evos",
    "test_efficientnet_gn",
    "test_efficientnet_ln",
    "test_mambaout",
    "test_nfnet",
    "test_resnet",
    "test_vit",
    "test_vit2",
    "test_vit3",
    "test_vit4",
    "resnet10t",
    "mobilenetv3_small_050",
    "mobilenetv2_035",
    "efficientnet_b0",
    "regnetx_002",
    "regnety_002",
    "densenet121",
    "dla46_c",
    "ghostnet_050",
    "hrnet_w18_small",
    "lcnet_035",
    "mixnet_s",
    "mnasnet_small",
    "mobileone_s0",
    "mobilevit_xxs",
    "mobilevitv2_050",
    "nf_resnet26",
    "pit_ti_224",
    "poolformer_s12",
    "pvt_v2_b0",
    "repghostnet_050",
    "repvgg_a0",
    "res2net50_14w_8s",
    "resnest14d",
    "selecsls42",
    "semnasnet_050",
    "skresnet18",
    "swin_tiny_patch4_window7_224",
    "tf_efficientnet_lite0",
    "tinynet_e",
    "tnt_s_patch16_224",
    "vgg11_bn",
    "visformer_tiny",
    "volo_d1_224",
    "xcit_nano_12_p16_224",
    "vit_tiny_patch16_224",
    "deit_tiny_patch16_224",
    "cait_xxs24_224",
    "convit_tiny",
    "coat_lite_tiny",
    "levit_128s",
    "edgenext_xx_small",
    "efficientformer_l1",
    "efficientformerv2_s0",
    "efficientvit_b0",
    "efficientvit_m0",
    "fastvit_t8",
    "focalnet_tiny_srf",
    "gcvit_xxtiny",
    "hiera_tiny_224",
    "hgnet_tiny",
    "inception_next_atto",
    "mambaout_femto",
    "mixer_s32_224",
    "gmlp_ti16_224",
    "resmlp_12_224",
    "nest_tiny",
    "rdnet_tiny",
    "repvit_m0_9",
    "shvit_s1",
    "starnet_s1",
    "swiftformer_xs",
    "tiny_vit_5m_224",
    "twins_pcpvt_small",
    "davit_tiny",
    "cs3darknet_s",
    "cspresnet50",
    "dpn48b",
    "lambda_resnet26t",
    "botnet26t_256",
    "sebotnet33ts_256",
    "ese_vovnet19b_slim",
    "fbnetc_100",
    "fbnetv3_b",
    "gernet_s",
    "legacy_seresnet18",
    "vovnet39a",
    "vit_relpos_small_patch16_224",
    "vit_small_patch16_rope_224",
    "eva02_tiny_patch14_224",
    "mobilenetv4_conv_small",
    "hardcorenas_a",
    "rexnet_100",
    "spnasnet_100",
    "tresnet_m",
    "csatv2",
    "mobilenet_edgetpu_v2_xs",
    "ghostnetv2_100",
    "ghostnetv3_050",
    "fasternet_t0",
    "convnextv2_atto",
    "convnext_atto_ols",
    "ese_vovnet19b_dw",
    "starnet_s050",
]
SIZES = (64, 96, 128, 224)
"""One model starts at the third: maps of smaller images end in so few values that the statistics of
a batch say little."""


def by_name(model: nn.Module, sizes: tuple[int, ...] = SIZES) -> Any:
    """A model, and the smallest images that it takes."""
    return model, first_taken(model, (images(size=s, batch=6 if s < 128 else 4) for s in sizes))


def of_timm(name: str) -> Any:
    """A model of timm for small images, where its input can be chosen."""
    create = Lazy("timm").create_model
    try:
        model = create(name, num_classes=10, img_size=64)
    except TypeError:
        model = create(name, num_classes=10)
    return by_name(model, SIZES[2:] if name == "lcnet_035" else SIZES)


# Medical images.

NETS, BLOCKS = Lazy("monai.networks.nets"), Lazy("monai.networks.blocks")
FLAT = dict(spatial_dims=2)
ONE_TWO = FLAT | dict(in_channels=1, out_channels=2)
STEPS = dict(channels=(4, 8), strides=(2, 2))
PATCHES = dict(
    in_channels=1,
    img_size=(32, 32),
    patch_size=(8, 8),
    hidden_size=32,
    mlp_dim=64,
    num_layers=2,
    num_heads=4,
    spatial_dims=2,
)
DIFFUSION = ONE_TWO | dict(
    out_channels=1,
    channels=(8, 16),
    attention_levels=(False, True),
    num_res_blocks=1,
    norm_num_groups=4,
    num_head_channels=8,
)
MONAI: Mapping[str, dict[str, Any]] = {
    "AttentionUnet": ONE_TWO | dict(channels=(4, 8, 16), strides=(2, 2), dropout=0.1),
    "AutoEncoder": FLAT | STEPS | dict(in_channels=1, out_channels=1, dropout=0.1, norm="batch"),
    "AutoencoderKL": FLAT
    | dict(channels=(8, 8), num_res_blocks=1, attention_levels=(False, False), norm_num_groups=4),
    "BasicUNet": FLAT | dict(features=(4, 4, 8, 8, 16, 4)),
    "BasicUNetPlusPlus": FLAT | dict(features=(4, 4, 8, 8, 16, 4)),
    "Classifier": STEPS | dict(in_shape=(1, 32, 32), classes=3, dropout=0.1),
    "Critic": STEPS | dict(in_shape=(1, 32, 32)),
    "DenseNet": FLAT
    | dict(
        in_channels=1,
        out_channels=3,
        init_features=8,
        growth_rate=4,
        block_config=(1, 1),
        dropout_prob=0.1,
    ),
    "Discriminator": STEPS | dict(in_shape=(1, 32, 32), dropout=0.25),
    "DynUNet": ONE_TWO
    | dict(
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        filters=[4, 8, 16],
        deep_supervision=True,
        deep_supr_num=1,
        norm_name="batch",
    ),
    "EfficientNetBN": FLAT
    | dict(model_name="efficientnet-b0", in_channels=1, num_classes=3, pretrained=False),
    "FlexibleUNet": ONE_TWO | dict(backbone="efficientnet-b0"),
    "GlobalNet": FLAT | dict(image_size=[32, 32], in_channels=1, num_channel_initial=4, depth=2),
    "HighResNet": ONE_TWO | dict(dropout_prob=0.1),
    "HoVerNet": dict(
        mode="fast", in_channels=3, out_classes=3, np_out_channels=2, dropout_prob=0.1
    ),
    "LocalNet": FLAT | dict(in_channels=1, num_channel_initial=4, extract_levels=[0, 1, 2]),
    "MaskedAutoEncoderViT": PATCHES
    | dict(
        img_size=32,
        patch_size=8,
        decoder_hidden_size=32,
        decoder_mlp_dim=64,
        decoder_num_layers=1,
        decoder_num_heads=4,
    ),
    "MedNeXt": FLAT
    | dict(
        init_filters=8,
        encoder_expansion_ratio=2,
        decoder_expansion_ratio=2,
        bottleneck_expansion_ratio=2,
        blocks_down=(1, 1),
        blocks_bottleneck=1,
        blocks_up=(1, 1),
    ),
    "PatchDiscriminator": FLAT | dict(channels=8, in_channels=1, num_layers_d=2),
    "Quicknat": dict(num_classes=3, num_channels=1, num_filters=8, se_block="CSE", drop_out=0.1),
    "RegUNet": FLAT | dict(in_channels=1, num_channel_initial=4, depth=2),
    "Regressor": STEPS | dict(in_shape=(1, 32, 32), out_shape=3, dropout=0.1),
    "ResNet": FLAT
    | dict(
        block="basic",
        layers=[1, 1, 1, 1],
        block_inplanes=[4, 8, 8, 16],
        n_input_channels=1,
        num_classes=3,
    ),
    "SENet": FLAT
    | dict(
        in_channels=1,
        block="se_resnet_bottleneck",
        layers=(1, 1, 1, 1),
        groups=1,
        reduction=4,
        num_classes=3,
        dropout_prob=0.2,
    ),
    "SegResNet": FLAT | dict(init_filters=8, dropout_prob=0.1),
    "SegResNetDS": FLAT | dict(init_filters=8, blocks_down=(1, 1, 1), norm="batch", dsdepth=2),
    "SegResNetVAE": FLAT | dict(input_image_size=(32, 32), init_filters=8, vae_nz=16),
    "SwinUNETR": ONE_TWO
    | dict(
        feature_size=12,
        depths=(1, 1, 1, 1),
        num_heads=(2, 2, 2, 2),
        drop_rate=0.1,
        dropout_path_rate=0.1,
    ),
    "UNETR": ONE_TWO
    | dict(img_size=32, feature_size=4, hidden_size=32, mlp_dim=64, num_heads=4, dropout_rate=0.1),
    "UNet": ONE_TWO
    | dict(channels=(4, 8, 16), strides=(2, 2), num_res_units=2, norm="batch", dropout=0.1),
    "VNet": ONE_TWO,
    "VQVAE": FLAT
    | dict(
        in_channels=1,
        out_channels=1,
        channels=(8, 8),
        num_res_channels=8,
        num_res_layers=1,
        num_embeddings=16,
        embedding_dim=8,
        dropout=0.1,
        downsample_parameters=((2, 4, 1, 1),) * 2,
        upsample_parameters=((2, 4, 1, 1, 0),) * 2,
    ),
    "VarAutoEncoder": FLAT | STEPS | dict(in_shape=(1, 32, 32), out_channels=1, latent_size=4),
    "ViT": PATCHES | dict(classification=True, dropout_rate=0.1),
}


def of_monai(name: str, arguments: dict[str, Any]) -> Any:
    """A network of monai, and the first images that it takes."""
    model = getattr(NETS, name)(**arguments)
    shapes = ((1, 32), (1, 64), (3, 256))
    return model, first_taken(model, (images(*shape, batch=4) for shape in shapes))


def with_live_ends(model: nn.Module) -> nn.Module:
    """Draw the layers that were made as zeros: training would move them, and they hide much."""
    for weight in model.parameters():
        if weight.dim() > 1 and not weight.any():
            nn.init.normal_(weight, std=0.1)
    return model


FLASH = dict(hidden_size=32, num_heads=4, dropout_rate=0.2, use_flash_attention=True)
MONAI_BY_HAND: dict[str, Builder] = {
    "ControlNet": lambda: (
        NETS.ControlNet(
            spatial_dims=2,
            in_channels=1,
            channels=(8, 16),
            attention_levels=(False, True),
            num_res_blocks=1,
            norm_num_groups=4,
            num_head_channels=8,
            conditioning_embedding_in_channels=1,
            conditioning_embedding_num_channels=(8,),
        ),
        images(1, 16),
        torch.arange(6),
        images(1, 16),
    ),
    "CrossAttentionBlock, flash, dropout": lambda: (
        BLOCKS.CrossAttentionBlock(**FLASH),
        vectors(10, 32),
        Keywords(context=vectors(5, 32)),
    ),
    "DecoderOnlyTransformer": lambda: (
        NETS.DecoderOnlyTransformer(
            num_tokens=50,
            max_seq_len=32,
            attn_layers_dim=32,
            attn_layers_depth=2,
            attn_layers_heads=4,
            embedding_dropout_rate=0.1,
        ),
        tokens(16, 50),
    ),
    "DiffusionModelUNet": lambda: (
        NETS.DiffusionModelUNet(**DIFFUSION),
        images(1, 16),
        torch.arange(6),
    ),
    "DiffusionModelUNet, flash, dropout": lambda: (
        with_live_ends(
            NETS.DiffusionModelUNet(
                **DIFFUSION,
                with_conditioning=True,
                cross_attention_dim=8,
                dropout_cattn=0.2,
                use_flash_attention=True,
            )
        ),
        images(1, 16),
        torch.arange(6),
        vectors(4, 8),
    ),
    "SABlock, dropout": lambda: (
        BLOCKS.SABlock(**FLASH | dict(use_flash_attention=False)),
        vectors(10, 32),
    ),
    "SABlock, flash, dropout": lambda: (BLOCKS.SABlock(**FLASH), vectors(10, 32)),
}

# Features, augmentation and geometry.

K = Lazy("kornia")
FEATURE = Lazy("kornia.feature")


def photos(channels: int = 3, size: int = 16, batch: int = 6) -> Tensor:
    """Values from 0 to 1, as of an image."""
    return torch.rand(batch, channels, size, size)


KORNIA: dict[str, Builder] = {
    name: lambda name=name: (getattr(FEATURE, name)(pretrained=False), photos(1, 32, 8))  # type: ignore[misc]
    for name in ("HardNet", "HyNet", "SOSNet", "TFeat")
} | {
    "Canny": lambda: (K.filters.Canny(), photos(1)),
    "ColorJitter": lambda: (K.augmentation.ColorJitter(0.2, 0.2, 0.2, 0.1, p=1.0), photos()),
    "DISK": lambda: (FEATURE.DISK(desc_dim=16), photos(size=32, batch=4)),
    "DeDoDe": lambda: (
        FEATURE.DeDoDe(detector_model="L", descriptor_model="B", amp_dtype=torch.float32),
        photos(size=56, batch=2),
    ),
    "GaussianBlur2d": lambda: (K.filters.GaussianBlur2d((3, 3), (1.0, 1.0)), photos()),
    "KeyNet": lambda: (FEATURE.KeyNet(pretrained=False), photos(1, 32, 4)),
    "LAFAffNetShapeEstimator": lambda: (
        FEATURE.LAFAffNetShapeEstimator(pretrained=False),
        torch.tensor([[8.0, 0, 16], [0, 8.0, 16]]).repeat(4, 2, 1, 1),
        photos(1, 32, 4),
    ),
    "Normalize": lambda: (
        K.augmentation.Normalize(mean=torch.zeros(3), std=torch.ones(3)),
        photos(),
    ),
    "RandomErasing": lambda: (K.augmentation.RandomErasing(p=1.0), photos()),
    "RandomHorizontalFlip before a convolution": lambda: (
        nn.Sequential(K.augmentation.RandomHorizontalFlip(p=0.5), nn.Conv2d(3, 4, 3)),
        photos(),
    ),
    "TinyViT": lambda: (
        Lazy("kornia.models.tiny_vit").TinyViT(
            img_size=64,
            num_classes=10,
            embed_dims=[8, 16, 16, 16],
            depths=[1, 1, 1, 1],
            num_heads=[2, 2, 2, 2],
            window_sizes=[4, 4, 4, 2],
            drop_path_rate=0.1,
        ),
        images(size=64, batch=4),
    ),
}

# Contrastive.

CLIP_TEXT = dict(context_length=16, vocab_size=100, width=32, heads=4, layers=2)
HEADS = Lazy("lightly.models.modules.heads")
LIGHTLY: dict[str, Builder] = {
    name: lambda name=name, sizes=sizes, more=more: (  # type: ignore[misc]
        getattr(HEADS, name)(*sizes, **more),
        torch.randn(8, 16),
    )
    for name, sizes, more in (
        ("BYOLProjectionHead", (16, 16, 8), {}),
        ("BarlowTwinsProjectionHead", (16, 16, 8), {}),
        ("DINOProjectionHead", (16, 16, 8, 8), dict(batch_norm=True)),
        ("SimCLRProjectionHead", (16, 16, 8), {}),
        ("SwaVPrototypes", (16, 8), {}),
        ("VICRegProjectionHead", (16, 16, 8), {}),
    )
} | {
    "DINOLoss": lambda: (
        Through(
            Lazy("lightly.loss").DINOLoss(output_dim=8),
            lambda loss, teacher, student: loss([teacher], [student, teacher], epoch=0),
        ),
        torch.randn(8, 8),
        torch.randn(8, 8),
    ),
    "NNMemoryBankModule": lambda: (
        Lazy("lightly.models.modules").NNMemoryBankModule(size=(16, 8)),
        torch.randn(8, 8),
    ),
    "NTXentLoss, memory bank": lambda: (
        Lazy("lightly.loss").NTXentLoss(memory_bank_size=(16, 8)),
        torch.randn(8, 8),
        torch.randn(8, 8),
    ),
    "ResNetGenerator, split batch norm": lambda: (
        Lazy("lightly.models").ResNetGenerator("resnet-9", width=0.125, num_splits=2),
        images(),
    ),
}
PYTORCHCV = [
    "resnet10",
    "seresnet10",
    "squeezenet_v1_0",
    "shufflenetv2_wd2",
    "menet108_8x1_g3",
    "mobilenet_wd4",
    "igcv3_wd4",
    "darknet_tiny",
    "proxylessnas_cpu",
    "nin_cifar10",
    "rir_cifar10",
    "shakeshakeresnet20_2x16d_cifar10",
    "densenet40_k12_cifar10",
    "peleenet",
]
SEGMENTERS = [
    "DeepLabV3",
    "DeepLabV3Plus",
    "FPN",
    "Linknet",
    "MAnet",
    "PAN",
    "PSPNet",
    "Segformer",
    "UPerNet",
    "Unet",
    "UnetPlusPlus",
]


def of_pytorchcv(name: str) -> Any:
    """A model of pytorchcv, and the smallest images that it takes."""
    model = Lazy("pytorchcv.model_provider").get_model(name, pretrained=False)
    return by_name(model, (32, *SIZES))


def each(names: list[str], build: Callable[[str], Any]) -> dict[str, Builder]:
    """A builder for each name."""
    return {name: lambda name=name: build(name) for name in names}  # type: ignore[misc]


MODELS: Family = {
    "timm": each(TIMM, of_timm),
    "monai": {
        name: lambda name=name, given=given: of_monai(name, given)  # type: ignore[misc]
        for name, given in MONAI.items()
    }
    | MONAI_BY_HAND,
    "kornia": KORNIA,
    "lightly": LIGHTLY,
    "open-clip-torch": {
        "CLIP, ResNet": lambda: (
            Lazy("open_clip.model").CLIP(
                embed_dim=32,
                vision_cfg=dict(layers=[1, 1, 1, 1], width=16, patch_size=None, image_size=64),
                text_cfg=CLIP_TEXT,
            ),
            images(size=64),
            tokens(),
        ),
        "CLIP, ViT": lambda: (
            Lazy("open_clip.model").CLIP(
                embed_dim=32,
                vision_cfg=dict(
                    layers=2,
                    width=32,
                    head_width=8,
                    patch_size=8,
                    image_size=32,
                    patch_dropout=0.25,
                ),
                text_cfg=CLIP_TEXT,
            ),
            images(),
            tokens(),
        ),
        "CoCa": lambda: (
            empty_as_nan()(Lazy("open_clip.coca_model").CoCa)(
                embed_dim=32,
                multimodal_cfg=CLIP_TEXT,
                text_cfg=CLIP_TEXT | dict(embed_cls=True, output_tokens=True),
                vision_cfg=dict(
                    layers=2,
                    width=32,
                    head_width=8,
                    patch_size=8,
                    image_size=32,
                    output_tokens=True,
                ),
            ),
            images(),
            tokens(),
        ),
    },
    "segment-anything": {
        "ImageEncoderViT": lambda: (
            Lazy("segment_anything.modeling").ImageEncoderViT(
                img_size=64,
                patch_size=8,
                embed_dim=32,
                depth=2,
                num_heads=4,
                out_chans=16,
                window_size=4,
                global_attn_indexes=(1,),
            ),
            images(size=64, batch=4),
        )
    },
    "efficientnet-pytorch": {
        "efficientnet-b0": lambda: by_name(
            Lazy("efficientnet_pytorch").EfficientNet.from_name("efficientnet-b0", num_classes=10)
        )
    },
    "geffnet": each(
        [
            "efficientnet_lite0",
            "fbnetc_100",
            "mixnet_s",
            "mnasnet_small",
            "mobilenetv3_rw",
            "spnasnet_100",
        ],
        lambda name: by_name(
            Lazy("geffnet").create_model(name, num_classes=10, drop_rate=0.2, drop_connect_rate=0.2)
        ),
    ),
    "resnest": {
        "resnest50": lambda: by_name(
            Lazy("resnest.torch").resnest50(pretrained=False, num_classes=10)
        )
    },
    "facenet-pytorch": {
        "InceptionResnetV1": lambda: (
            Lazy("facenet_pytorch").InceptionResnetV1(
                pretrained=None, classify=True, num_classes=10
            ),
            images(size=96, batch=4),
        )
    },
    "segmentation-models-pytorch": each(
        SEGMENTERS,
        lambda name: by_name(
            getattr(Lazy("segmentation_models_pytorch"), name)(
                encoder_name="efficientnet-b0", encoder_weights=None, classes=2
            )
        ),
    ),
    "pytorchcv": each(PYTORCHCV, of_pytorchcv),
}
