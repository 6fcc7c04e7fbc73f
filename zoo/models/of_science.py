"""Probability, spiking nets, operators and proteins."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.entry import Family, Lazy, Through
from zoo.inputs import images, vectors

# Flows.

NF, NORMFLOWS, ZUKO = Lazy("nflows.transforms"), Lazy("normflows"), Lazy("zuko.flows")


def nflow(*transforms: Any, first: bool = False) -> Any:
    """The density of points under a flow; some take their first values from a first batch."""
    flow = Lazy("nflows.flows").Flow(
        NF.CompositeTransform(list(transforms)), Lazy("nflows.distributions").StandardNormal([4])
    )
    if first:
        flow.log_prob(torch.randn(64, 4))
    return Through(flow, lambda m, x: m.log_prob(x)), torch.randn(8, 4)


def normflow(*layers: Any, first: bool = False) -> Any:
    """The density of points under a flow of the other package."""
    flow = NORMFLOWS.NormalizingFlow(NORMFLOWS.distributions.base.DiagGaussian(4), list(layers))
    if first:
        flow.log_prob(torch.randn(64, 4))
    return Through(flow, lambda m, x: m.log_prob(x)), torch.randn(8, 4)


def coupling() -> Any:
    """A coupling layer of four dimensions."""
    return NORMFLOWS.flows.AffineCouplingBlock(NORMFLOWS.nets.MLP([2, 16, 4]))


def zuko(name: str, **arguments: Any) -> Any:
    """The density of points under a flow of the third."""
    flow = getattr(ZUKO, name)(4, hidden_features=(16,), **arguments)
    return Through(flow, lambda m, x: m().log_prob(x)), torch.randn(8, 4)


# Gaussian processes.

GP, BOTORCH = Lazy("gpytorch"), Lazy("botorch")


def exact_gp() -> Any:
    """The mean of an exact process with twelve points."""
    points = torch.randn(12, 2)

    class Process(GP.models.ExactGP):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            noise = GP.likelihoods.GaussianLikelihood()
            super().__init__(points, points[:, 0].sin(), noise)
            self.mean = GP.means.ConstantMean()
            self.kernel = GP.kernels.ScaleKernel(GP.kernels.RBFKernel())

        def forward(self, x: Tensor) -> Any:
            return GP.distributions.MultivariateNormal(self.mean(x), self.kernel(x))

    model = Through(Process(), lambda m, x: m(x).mean)
    return model.eval(), vectors(2)


def sparse_gp() -> Any:
    """Mean and variance of a process with eight inducing points."""

    class Process(GP.models.ApproximateGP):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            variational = GP.variational.VariationalStrategy(
                self,
                torch.randn(8, 2),
                GP.variational.CholeskyVariationalDistribution(8),
                learn_inducing_locations=True,
            )
            super().__init__(variational)
            self.mean = GP.means.ConstantMean()
            self.kernel = GP.kernels.ScaleKernel(GP.kernels.MaternKernel())

        def forward(self, x: Tensor) -> Any:
            return GP.distributions.MultivariateNormal(self.mean(x), self.kernel(x))

    return Through(Process(), lambda m, x: (m(x).mean, m(x).variance)), vectors(2)


def random_features() -> Any:
    """A kernel of random Fourier features."""
    kernel = GP.kernels.RFFKernel(num_samples=8, num_dims=2)
    return Through(kernel, lambda m, x: m(x, torch.ones(3, 2)).to_dense()), vectors(2)


def fitted(dimensions: int = 2) -> Any:
    """A process of botorch with twelve points."""
    points = torch.rand(12, dimensions).double()
    return BOTORCH.models.SingleTaskGP(points, points.sum(1, keepdim=True))


def posterior() -> Any:
    """Its mean and variance."""

    def ask(model: Any, x: Tensor) -> Any:
        found = model.posterior(x.unsqueeze(1))
        return found.mean, found.variance

    return Through(fitted(), ask), torch.rand(6, 2).double()


def transform(name: str, kind: str = "input", size: int = 3, **arguments: Any) -> Any:
    """A transform of botorch that has seen data."""
    made = getattr(Lazy(f"botorch.models.transforms.{kind}"), name)(**arguments)
    made.train()
    made(torch.rand(20, size))
    return made, torch.rand(6, size)


# Variational autoencoders.

PYTHAE = [
    "AE",
    "Adversarial_AE",
    "BetaTCVAE",
    "BetaVAE",
    "CIWAE",
    "DisentangledBetaVAE",
    "FactorVAE",
    "HVAE",
    "IWAE",
    "InfoVAE_MMD",
    "MIWAE",
    "MSSSIM_VAE",
    "PIWAE",
    "PoincareVAE",
    "RAE_GP",
    "RAE_L2",
    "RHVAE",
    "SVAE",
    "VAE",
    "VAEGAN",
    "VAE_IAF",
    "VAE_LinNF",
    "VAMP",
    "VQVAE",
    "WAE_MMD",
]


def of_pythae(name: str) -> Any:
    """An autoencoder with its loss."""
    models, data = Lazy("pythae.models"), Lazy("pythae.data.datasets")
    model = getattr(models, name)(
        getattr(models, f"{name}Config")(input_dim=(1, 8, 8), latent_dim=4)
    )

    def call(model: Any, x: Tensor) -> dict[str, Any]:
        rows = data.DatasetOutput(data=x, labels=torch.zeros(len(x)), index=torch.arange(len(x)))
        return dict(model(rows).items())

    return Through(model, call), torch.rand(6, 1, 8, 8)


# Spikes.

SPIKING = "spikingjelly.activation_based"


def spikes(*layers: nn.Module) -> Any:
    """A net that is given enough to fire."""
    return nn.Sequential(*layers), 3 * vectors(8)


# Proteins.

ESM = Lazy("esm")
PROTEIN = dict(
    layers=2,
    embed_dim=32,
    ffn_embed_dim=64,
    attention_heads=4,
    emb_layer_norm_before=True,
    max_positions=64,
)


def residues(*shape: int) -> Tensor:
    """Amino acids by number."""
    return torch.randint(4, 20, shape)


def esm(name: str, architecture: str, *shape: int, **more: Any) -> Any:
    """A protein model of an older kind."""
    arguments = Lazy("argparse").Namespace(**PROTEIN, **more)
    return getattr(ESM, name)(arguments, ESM.Alphabet.from_architecture(architecture)), residues(
        *shape
    )


OPERATOR = dict(n_modes=(4, 4), hidden_channels=8, in_channels=1, out_channels=1, n_layers=2)

MODELS: Family = {
    "bayesian-torch": {
        "Conv2dFlipout": lambda: (
            Lazy("bayesian_torch.layers").Conv2dFlipout(3, 4, 3),
            images(3, 8),
        ),
        "LinearReparameterization": lambda: (
            Lazy("bayesian_torch.layers").LinearReparameterization(8, 4),
            vectors(8),
        ),
    },
    "blitz-bayesian-pytorch": {
        "BayesianLSTM": lambda: (Lazy("blitz.modules").BayesianLSTM(8, 4), vectors(5, 8)),
        "BayesianLinear": lambda: (Lazy("blitz.modules").BayesianLinear(8, 4), vectors(8)),
    },
    "botorch": {
        "InputPerturbation": lambda: (
            Lazy("botorch.models.transforms.input").InputPerturbation(0.1 * torch.randn(3, 3)),
            torch.rand(6, 3),
        ),
        "InputStandardize": lambda: transform("InputStandardize", d=3),
        "Normalize": lambda: transform("Normalize", d=3),
        "SingleTaskGP": posterior,
        "Standardize": lambda: transform("Standardize", "outcome", 1, m=1),
        "qExpectedImprovement": lambda: (
            BOTORCH.acquisition.qExpectedImprovement(fitted(), best_f=0.5),
            torch.rand(6, 1, 2).double(),
        ),
    },
    "fair-esm": {
        "ESM2": lambda: (
            Lazy("esm.model.esm2").ESM2(num_layers=2, embed_dim=32, attention_heads=4),
            residues(6, 12),
        ),
        "MSATransformer": lambda: esm(
            "MSATransformer",
            "msa_transformer",
            4,
            3,
            12,
            dropout=0.1,
            attention_dropout=0.1,
            activation_dropout=0.1,
            max_tokens=2**14,
            embed_positions_msa=True,
        ),
        "ProteinBertModel": lambda: esm(
            "ProteinBertModel",
            "roberta_large",
            6,
            12,
            arch="roberta_large",
            logit_bias=True,
            token_dropout=True,
            final_bias=True,
        ),
    },
    "gpytorch": {
        "ApproximateGP": sparse_gp,
        "ExactGP": exact_gp,
        "RFFKernel": random_features,
    },
    "neuraloperator": {
        "FNO": lambda: (Lazy("neuralop.models").FNO(**OPERATOR), images(1, 16)),
        "TFNO": lambda: (Lazy("neuralop.models").TFNO(**OPERATOR, rank=0.5), images(1, 16)),
    },
    "nflows": {
        "ActNorm, splines": lambda: nflow(
            NF.ActNorm(4),
            NF.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                4, 16, tails="linear", tail_bound=3.0
            ),
            first=True,
        ),
        "BatchNorm, autoregressive": lambda: nflow(
            NF.MaskedAffineAutoregressiveTransform(
                4, 16, dropout_probability=0.1, use_batch_norm=True, use_residual_blocks=False
            ),
            NF.BatchNorm(4),
            NF.ReversePermutation(4),
        ),
    },
    "normflows": {
        "ActNorm": lambda: normflow(
            coupling(),
            NORMFLOWS.flows.Permute(4, mode="swap"),
            NORMFLOWS.flows.ActNorm(4),
            first=True,
        ),
        "ActNorm, never called": lambda: normflow(NORMFLOWS.flows.ActNorm(4)),
        "BatchNorm": lambda: (NORMFLOWS.flows.BatchNorm(), torch.randn(8, 4)),
        "Residual": lambda: normflow(
            NORMFLOWS.flows.Residual(
                NORMFLOWS.nets.LipschitzMLP([4, 16, 4], init_zeros=False), reduce_memory=False
            )
        ),
    },
    "pythae": {name: lambda name=name: of_pythae(name) for name in PYTHAE},  # type: ignore[misc]
    "snntorch": {
        "Leaky": lambda: spikes(
            nn.Linear(8, 8),
            Lazy("snntorch").Leaky(beta=0.9, init_hidden=True),
            nn.Linear(8, 4),
            Lazy("snntorch").Leaky(beta=0.9, init_hidden=True, output=True),
        )
    },
    "spikingjelly": {
        "Dropout": lambda: spikes(
            nn.Linear(8, 8), Lazy(f"{SPIKING}.layer").Dropout(0.5), nn.Linear(8, 4)
        ),
        "IFNode": lambda: spikes(
            nn.Linear(8, 8), Lazy(f"{SPIKING}.neuron").IFNode(), nn.Linear(8, 4)
        ),
        "SpikingVGG": lambda: (
            Lazy(f"{SPIKING}.model.spiking_vgg").spiking_vgg11_bn(
                pretrained=False,
                spiking_neuron=Lazy(f"{SPIKING}.neuron").IFNode,
                num_classes=10,
            ),
            images(batch=4),
        ),
    },
    "torchbnn": {
        "BayesBatchNorm2d": lambda: (Lazy("torchbnn").BayesBatchNorm2d(0, 0.1, 8), images(8, 4)),
        "BayesLinear": lambda: (Lazy("torchbnn").BayesLinear(0, 0.1, 8, 4), vectors(8)),
    },
    "zuko": {
        "CNF": lambda: zuko("CNF"),
        "NSF": lambda: zuko("NSF", transforms=2),
    },
}
