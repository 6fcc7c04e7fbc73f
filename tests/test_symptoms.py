"""Each check of "What is going wrong?" on a program with the fault, and on one without."""

import io
import re
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DistributedSampler

from utils.calibration import fit_temperature

PAGE = Path(__file__).parent.parent / "reference" / "what_is_going_wrong.md"
ENTRY = re.compile(
    r"^\(([a-z0-9-]+)\)=\n#+ ([^\n]+)\n(.*?)(?=^\([a-z0-9-]+\)=|^## |\Z)",
    re.MULTILINE | re.DOTALL,
)
ENTRIES = {name: text for name, _, text in ENTRY.findall(PAGE.read_text(encoding="utf-8"))}
CHECKS = {
    name: found[1]
    for name, text in ENTRIES.items()
    if (found := re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
}
X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
CENTRED = torch.cat([X, -X])


def net(*layers):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), *layers, nn.Linear(4, 3))


def batch_normed(momentum=0.1, batches=100, data=X):
    """A network whose statistics are those of its data."""
    model = net(nn.BatchNorm1d(4, momentum=momentum))
    with torch.no_grad():
        for _ in range(batches):
            model.train()(data)
    return model


class Function(nn.Module):
    """A model that is one function, called with itself."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x, **options):
        return self.function(self, x, **options)


class TrainsItself(nn.Module):
    def train(self, loader=None):
        pass


class FromKeras(nn.Module):
    __module__ = "keras.src.layers.layer"


class KeepsABody(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Dropout())

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()
        return self


class Merges(nn.Module):
    def eval(self):
        return self


def flagged(value):
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].train = value
    return model


def frozen(keeps, cure_in_loop=False):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = net(nn.BatchNorm1d(4)).eval()

        def train(self, mode=True):
            super().train(mode)
            if keeps:
                self.backbone.eval()
            return self

    model = Model().train()
    if cure_in_loop:
        model.backbone.eval()
    return {"model": model, "backbone": model.backbone}


def poisoned(value, buffer="running_var"):
    model = batch_normed()
    getattr(model[1], buffer)[0] = value
    return model.eval()


def collapsed():
    model = batch_normed().eval()
    model[1].running_var.fill_(1e12)
    return model


def averaged(copied_after, use_buffers=False):
    """An average over the last of 300 steps, of a copy that was made at one of them."""
    inputs = X + 3
    labels = (X.sum(1) > 0).long()
    model, average = net(nn.BatchNorm1d(4)), None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for step in range(300):
        if step == copied_after:
            average = AveragedModel(model, use_buffers=use_buffers)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        if average is not None:
            average.update_parameters(model)
    return {
        "average": average if use_buffers else stale(average.module, copied_after),
        "batches": [inputs],
        "loss_of": lambda m: F.cross_entropy(m(inputs), labels),
    }


def stale(average, batches):
    """With the statistics of the day the copy was made: parameters alone were averaged."""
    fresh = net(nn.BatchNorm1d(4))
    with torch.no_grad():
        for _ in range(batches):
            fresh(X + 3)
    average[1].load_state_dict(average[1].state_dict() | dict(fresh[1].named_buffers()))
    return average


def step_by_step(calls):
    """A training that sends so many slices through for each step of the optimiser."""
    model = batch_normed()

    def train_for(steps):
        for _ in range(steps * calls):
            model(X)

    return {"model": model, "train_for": train_for, "steps": 10}


def encoder(**options):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[0, 3:] = True
    inputs = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    return {"model": nn.TransformerEncoder(layer, 1, **options), "x": inputs, "padding": padding}


def with_loss(model):
    labels = torch.arange(8) % 3
    return {"model": model, "y": labels, "loss_of": lambda x, y: F.cross_entropy(model(x), y)}


def policy(p, updates_in_train_mode=True):
    model = net(nn.Dropout(p)).eval()

    def log_prob(x):
        return model(x).log_softmax(1)[:, 0]

    old = log_prob(X).detach()
    model.train(updates_in_train_mode)
    return {"model": model, "log_prob": log_prob, "old": old}


def keeping(kept):
    """A model that keeps what it made inside the block, as a tensor, in a dict or as numbers."""
    model = PLAIN()
    with torch.inference_mode():
        model.kept = kept(torch.ones(2))
    return model


def summed(inference):
    with torch.inference_mode(inference), torch.no_grad():
        return torch.zeros(()) + 1.0


def checkpoint_without(word):
    model = batch_normed()
    state = model.state_dict()  # with the version of each module, as a file has it
    for name in [name for name in state if word in name]:
        del state[name]
    return {"model": model, "state": state}


def exported(training, *layers):
    model = net(*(layers or [nn.Dropout()])).train(training)
    return {"program": torch.export.export(model, (X,))}


def exported_rnn(training):
    rnn = nn.LSTM(4, 4, 2, dropout=0.5, batch_first=True)
    model = Function(lambda self, x: self.rnn(x)[0], rnn=rnn).train(training)
    inputs = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    return {"program": torch.export.export(model, (inputs,)), "x": inputs}


def exported_norms(mixed):
    model = net(nn.BatchNorm1d(4), nn.BatchNorm1d(4)).eval()
    model[1].train(mixed)
    return {"program": torch.export.export(model, (X,))}


def exported_in_a_block(mixed):
    """A frozen part inside ``no_grad``, of which the program makes a graph of its own."""

    def forward(self, x):
        with torch.no_grad():
            x = self.body(x)
        return self.head(x)

    parts = {"body": net(nn.BatchNorm1d(4)), "head": nn.BatchNorm1d(3)}
    model = Function(forward, **parts).train()
    model.body.train(not mixed)
    return {"program": torch.export.export(model, (X,))}


def checkpointed(layer, preserve):
    def block(x):
        return checkpoint(layer, x, use_reentrant=False, preserve_rng_state=preserve)

    return {"layer": layer, "block": block, "inputs": X}


def frozen_script():
    return {"frozen": torch.jit.freeze(torch.jit.script(net(nn.Dropout()).eval()))}


def compiled(reaches):
    class Wrapper:
        def __init__(self):
            self._orig_mod = nn.Linear(2, 2)

        def eval(self):
            return self

    return {"compiled": torch.compile(nn.Linear(2, 2)) if reaches else Wrapper()}


def answers():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    return 3 * (F.one_hot(labels, 3) + 0.7 * torch.randn(300, 3, generator=generator)), labels


def scaled(T):
    logits, labels = answers()
    return {"logits": logits, "y": labels, "T": T}


def kept(detached):
    loss = net()(X).sum()
    return {"kept": [loss.detach() if detached else loss]}


def ddp(model):
    wrapper = Function(lambda self, x: self.module(x), module=model)
    wrapper.broadcast_buffers = True
    return {"ddp": wrapper}


def per_position(looks_around):
    """An answer for each position of a sequence, with a look at the next or without."""
    kernel = 3 if looks_around else 1
    conv = nn.Conv1d(4, 4, kernel, padding=kernel // 2)
    model = Function(lambda self, x: self.conv(x.mT).mT, conv=conv)
    x = torch.ones(1, 3, 4)
    return {"model": model, "short": x, "longer": F.pad(x, (0, 0, 0, 2), value=5.0)}


def grouped(groups, shape):
    norm = nn.GroupNorm(groups, 4)
    model = Function(lambda self, x: self.norm(x.flatten(1) @ self.to_four), norm=norm)
    x = torch.randn(8, *shape, generator=torch.Generator().manual_seed(0))
    model.to_four = torch.ones(x[0].numel(), 4)
    return {"model": model, "x": x}


def recipe(model):
    """The usual one for Monte Carlo dropout."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    return {"model": model}


class NormWithActivation(nn.BatchNorm1d):
    """As timm has it, with a child."""

    def __init__(self, features):
        super().__init__(features)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


def spectral():
    torch.manual_seed(0)
    layers = [nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)) for _ in range(2)]
    for layer in layers:
        nn.init.normal_(layer.parametrizations.weight.original)
    return nn.Sequential(*layers)


def poisoned_in_training():
    """A batch with a nan came after many that were sound."""
    model, bad = batch_normed(), X.clone()
    bad[0, 0] = torch.nan
    with torch.no_grad():
        model(bad)
    return model.eval()


def encoder_in(dtype, **options):
    given = encoder(**options)
    return given | {"model": given["model"].to(dtype), "x": given["x"].to(dtype)}


class Counts(nn.Module):
    """State of its own that moves in train mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += self.training
        return x


class FrozenStatistics(nn.Module):
    """As detectors have it: statistics, no momentum and no counter."""

    def __init__(self):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(4))
        self.register_buffer("running_var", torch.ones(4))
        self.eval()

    def forward(self, x):
        return (x - self.running_mean) / self.running_var.sqrt()


def deep_images():
    return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def deep(steps):
    """Convolutions whose variances are far from 1, and whose means are not far from 0."""
    torch.manual_seed(0)
    blocks = [
        layer
        for width in (3, 8, 8, 8)
        for layer in (nn.Conv2d(width, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    ]
    model = nn.Sequential(*blocks).train()
    with torch.no_grad():
        for _ in range(steps):
            model(deep_images())
    return model


def padded(masked):
    def mean(self, x):
        words = (x != 0).any(-1, keepdim=True)
        return (x * words).sum(1) / words.sum(1) if masked else x.mean(1)

    x = torch.ones(1, 3, 4)
    return {"model": Function(mean), "short": x, "longer": F.pad(x, (0, 0, 0, 2))}


DROPS = lambda: net(nn.Dropout())  # noqa: E731
PLAIN = lambda: net(nn.ReLU())  # noqa: E731


@pytest.fixture(scope="module")
def cases():
    """For each check what it is given: with the fault, and without where there is such a case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript's, and a dropout in a single layer
        plainest, other = plainest_forms(), other_forms()
    assert other.keys() <= plainest.keys()
    joined = {}
    for name, (faulty, healthy) in plainest.items():
        more_faulty, more_healthy = other.get(name, ([], []))
        alone = [] if healthy is None else [healthy]
        joined[name] = [faulty, *more_faulty], [*alone, *more_healthy]
    return joined


def plainest_forms():
    """Of each entry, as its heading has it."""
    return {
        "is-it-all-in-eval": (DROPS(), DROPS().eval()),
        "two-calls-differ": (Function(lambda self, x: F.dropout(x)), DROPS()),
        "functional-dropout": (
            Function(
                lambda self, x: F.scaled_dot_product_attention(
                    x[None], x[None], x[None], dropout_p=0.5
                )
            ),
            Function(lambda self, x: F.dropout(x, 0.5, self.training)),
        ),
        "plain-list": (
            Function(lambda self, x: x, parts=[nn.Dropout()]),
            Function(lambda self, x: x, parts=nn.ModuleList([nn.Dropout()])),
        ),
        "no-grad-is-not-enough": (DROPS(), DROPS().eval()),
        "spectral-norm": (nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)), PLAIN()),
        "flaky-test": (DROPS(), DROPS().eval()),
        "ready-for-evaluation": (batch_normed(), batch_normed().eval()),
        "worse-in-eval": (
            {"model": batch_normed(batches=1, data=X + 5), "train_x": X + 5},
            {"model": batch_normed(), "train_x": X},
        ),
        "few-updates": (batch_normed(batches=3), batch_normed()),
        "momentum-zero": (batch_normed(momentum=0.0), batch_normed()),
        "nan-in-eval": (poisoned(-1.0), batch_normed()),
        "same-for-every-input": (collapsed(), batch_normed()),
        "slices": (
            step_by_step(calls=4),
            step_by_step(calls=1),
        ),
        "averaged-weights": (averaged(copied_after=2), averaged(295, use_buffers=True)),
        "federated": (
            {"model": batch_normed(batches=0), "clients": [batch_normed()]},
            {"model": batch_normed(), "clients": [batch_normed(), batch_normed()]},
        ),
        "checkpoint-mask": (
            checkpointed(nn.Dropout(), preserve=False),
            checkpointed(nn.Dropout(), preserve=True),
        ),
        "rate-after-eval": (DROPS(), None),
        "export-mixed-modes": (exported_norms(mixed=True), exported_norms(mixed=False)),
        "instance-norm": (
            nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True)),
            nn.Sequential(nn.InstanceNorm2d(3)),
        ),
        "encoder-padding": (encoder(), encoder(enable_nested_tensor=False)),
        "gradients-change-numbers": (
            {"model": encoder()["model"], "x": encoder()["x"]},
            batch_normed(),
        ),
        "validation-lower": (with_loss(net(nn.Dropout(0.9))), with_loss(PLAIN())),
        "validation-higher": (
            net(nn.Dropout(), nn.BatchNorm1d(4)),
            net(nn.BatchNorm1d(4), nn.Dropout()),
        ),
        "group-norm-of-one": (net(nn.GroupNorm(4, 4)), net(nn.GroupNorm(2, 4))),
        "detector-losses": (
            {"model": batch_normed(), "batch": (X,)},
            {"model": Counts(), "batch": (X,)},
        ),
        "batch-size-changes-answers": (batch_normed(), batch_normed().eval()),
        "padding-moves-scores": (padded(masked=False), padded(masked=True)),
        "mean-of-batch-means": (
            {"losses": [0.1, 0.7], "sizes": [100, 10], "reported": 0.4},
            {"losses": [0.1, 0.7], "sizes": [100, 10], "reported": 17 / 110},
        ),
        "f1-of-batches": (
            {"batch_values": [0.2, 0.4], "whole": 0.35},
            {"batch_values": [0.2, 0.4], "whole": 0.3},
        ),
        "validation-moves-the-model": (batch_normed(), batch_normed().eval()),
        "frozen-part-thaws": (frozen(keeps=False), frozen(keeps=True)),
        "eval-norm-still-learns": (
            batch_normed(),
            Function(
                lambda self, x: self.body(x) + self.bias,
                body=batch_normed().requires_grad_(False),
                bias=nn.Parameter(torch.zeros(3)),
            ),
        ),
        "left-in-eval": (DROPS().eval(), DROPS()),
        "lightning-eval-mode": (DROPS().eval(), DROPS()),
        "greedy-generation-differs": (DROPS(), DROPS().eval()),
        "adapters-mixed-modes": (nn.Sequential(nn.Dropout(), nn.Dropout().eval()), DROPS()),
        "keras-layers-ignore-the-flag": (nn.Sequential(FromKeras()), DROPS()),
        "ppo-ratio": (policy(0.5), policy(0.0)),
        "eval-or-no-grad": (DROPS().eval(), {"model": DROPS().eval(), "gradients": False}),
        "backward-in-eval": (PLAIN(), {"model": PLAIN(), "gradients": False}),
        "which-variance": ({}, None),
        "inference-mode-everywhere": (
            {"value": summed(inference=True)},
            {"value": summed(inference=False)},
        ),
        "target-network": ({"target": DROPS()}, {"target": DROPS().eval()}),
        "keep-prob": (net(nn.Dropout(0.8)), net(nn.Dropout(0.2))),
        "scaling-at-test-time": ({}, None),
        "how-many-zeros": ({}, None),
        "mc-dropout-no-variance": (
            recipe(encoder()["model"]) | {"x": encoder()["x"]},
            recipe(DROPS()),
        ),
        "modes-agree": (net(nn.LayerNorm(4)), DROPS()),
        "expected-more-than-1-value": (batch_normed(), batch_normed().eval()),
        "bool-not-callable": (flagged(True), PLAIN()),
        "own-train-method": (nn.Sequential(TrainsItself()), PLAIN()),
        "own-eval-method": (nn.Sequential(Merges()), PLAIN()),
        "training-mode-boolean": (PLAIN(), nn.Sequential(TrainsItself())[0]),
        "does-not-require-grad": ({"gradients": False}, {"gradients": True}),
        "inference-tensors": (keeping(lambda value: value), keeping(torch.Tensor.tolist)),
        "inplace-inference": (
            {"total": summed(inference=True)},
            {"total": summed(inference=False)},
        ),
        "cudnn-rnn": (nn.Sequential(nn.LSTM(4, 4)).eval(), nn.Sequential(nn.LSTM(4, 4))),
        "rnn-dropout-warning": (
            Function(lambda self, x: x, rnn=nn.LSTM(4, 4, 1, dropout=0.5)),
            Function(lambda self, x: x, rnn=nn.LSTM(4, 4, 2, dropout=0.5)),
        ),
        "missing-num-batches": (
            checkpoint_without("num_batches_tracked"),
            checkpoint_without("running_mean"),
        ),
        "vmap": (batch_normed(), batch_normed().eval()),
        "same-mode": (
            {"conv": nn.Conv2d(1, 1, 1), "norm": nn.BatchNorm2d(1).eval()},
            {"conv": nn.Conv2d(1, 1, 1).eval(), "norm": nn.BatchNorm2d(1).eval()},
        ),
        "no-eval-hook": ({"source": "model.eval()"}, {"source": "x = eval(text)"}),
        "memory-grows": (kept(detached=False), kept(detached=True)),
        "mode-is-not-saved": (DROPS(), DROPS().eval()),
        "exported-eval": (exported(training=True), exported(training=False)),
        "onnx-training-mode": (
            {"layers": [nn.BatchNorm1d(4, track_running_stats=False).eval()]},
            {"layers": [nn.BatchNorm1d(4).eval()]},
        ),
        "frozen-script": (frozen_script(), {"frozen": DROPS()}),
        "compiled-flag": (compiled(reaches=False), compiled(reaches=True)),
        "mc-dropout-exported": ({"exported": PLAIN()}, {"exported": DROPS()}),
        "libtorch": (
            {"model": DROPS(), "module": torch.jit.trace(DROPS(), X, check_trace=False)},
            {"model": DROPS(), "module": torch.jit.trace(DROPS().eval(), X)},
        ),
        "distributed-sampler": (
            {"sampler": DistributedSampler(range(10), 4, 0)},
            {"sampler": DistributedSampler(range(12), 4, 0)},
        ),
        "rank-0-hangs": (ddp(batch_normed()), ddp(PLAIN())),
        "zero-stage-3": (DROPS().eval(), DROPS()),
        "who-switches": ({}, None),
        "in-a-service": (
            {"answer": PLAIN()},
            {"answer": torch.inference_mode()(PLAIN())},
        ),
        "dcgan": (
            {"generator": batch_normed(), "noise": X},
            {"generator": batch_normed().eval(), "noise": X},
        ),
        "is-b-better": ({"only_a": 200, "only_b": 230}, {"only_a": 200, "only_b": 300}),
        "temperature-runs-away": (scaled(1_386_304.0), scaled(fit_temperature(*answers()))),
    }


def other_forms():
    """Other faults that a check must find, and other healthy models that it must leave alone."""
    held = SimpleNamespace(parts=[[nn.Dropout()], {"a": [nn.Dropout()]}])
    resnet = Function(lambda self, x: self.body(x), body=batch_normed())
    tracked = nn.Sequential(nn.InstanceNorm1d(1, track_running_stats=True))
    encoder_layer = nn.TransformerEncoderLayer(4, 2, 8, 0.5, batch_first=True)
    sequence = {"inputs": torch.randn(8, 5, 4, generator=torch.Generator().manual_seed(1))}
    renewed = averaged(copied_after=2)
    update_bn(renewed["batches"], renewed["average"])
    return {
        "plain-list": (
            [
                Function(lambda self, x: x, held=held),
                Function(lambda self, x: x, d={"a": [DROPS()]}),
            ],
            [PLAIN(), nn.ModuleDict({"a": DROPS()}), nn.LSTM(4, 4)],
        ),
        "few-updates": (
            [batch_normed(momentum=0.01, batches=60), batch_normed(momentum=0.0)],
            [batch_normed(momentum=None), FrozenStatistics(), tracked],
        ),
        "momentum-zero": (
            [
                batch_normed().eval(),
                FrozenStatistics(),
                {"model": batch_normed().bfloat16(), "x": X.bfloat16()},
            ],
            [],
        ),
        "averaged-weights": (
            [averaged(2)],
            [renewed, renewed | {"loss_of": lambda model: renewed["loss_of"](model) - 10}],
        ),
        "federated": (
            [
                {"model": batch_normed(), "clients": [batch_normed(data=X + 3)]},
                {
                    "model": batch_normed(data=CENTRED),
                    "clients": [batch_normed(data=0.1 * CENTRED)],
                },
            ],
            [],
        ),
        "frozen-part-thaws": ([], [frozen(keeps=False, cure_in_loop=True)]),
        "checkpoint-mask": (
            [
                checkpointed(DROPS(), preserve=False),
                checkpointed(encoder_layer, preserve=False) | sequence,
            ],
            [
                checkpointed(DROPS(), preserve=True),
                checkpointed(batch_normed(), preserve=True),
                checkpointed(encoder_layer, preserve=True) | sequence,
            ],
        ),
        "padding-moves-scores": (
            [per_position(looks_around=True)],
            [per_position(looks_around=False)],
        ),
        "validation-higher": (
            [net(nn.Dropout1d(), nn.BatchNorm1d(4)), net(nn.Dropout(), NormWithActivation(4))],
            [net(nn.Dropout(), nn.BatchNorm1d(4, track_running_stats=False))],
        ),
        "encoder-padding": (
            [encoder() | {"model": encoder()["model"].requires_grad_(False)}],
            [
                encoder_in(torch.bfloat16, enable_nested_tensor=False),
                encoder_in(torch.float16, enable_nested_tensor=False),
            ],
        ),
        "group-norm-of-one": ([grouped(4, (2, 3))], [grouped(2, (2, 3))]),
        "batch-size-changes-answers": (
            [
                {"model": batch_normed(), "x": X[:5]},
                nn.Sequential(batch_normed(), nn.Linear(3, 30_000), nn.Softmax(1)),
                Function(
                    lambda self, x: self.body(x).masked_fill(self.mask, -torch.inf),
                    body=batch_normed(),
                    mask=torch.tensor([True, False, False]),
                ),
                Function(
                    lambda self, x: torch.cat([self.body(r) for r in x.split(3)]),
                    body=batch_normed(),
                ),
            ],
            [{"model": batch_normed().eval(), "x": X[:5]}],
        ),
        "ready-for-evaluation": (
            [
                {"model": batch_normed(), "x": X[:5]},
                poisoned_in_training(),
                net(nn.BatchNorm1d(4, track_running_stats=False)).eval(),
            ],
            [],
        ),
        "modes-agree": ([PLAIN()], [spectral(), batch_normed()]),
        "functional-dropout": ([], [Function(lambda self, x: x.log()), DROPS()]),
        "nan-in-eval": (
            [
                poisoned_in_training(),
                Function(lambda self, x: x, mean=nn.Buffer(torch.tensor([torch.nan]))),
            ],
            [Function(lambda self, x: x, mask=nn.Buffer(torch.tensor([-torch.inf])))],
        ),
        "validation-moves-the-model": (
            [Function(lambda self, x: self.seen.add_(1), seen=nn.Buffer(torch.zeros(1)))],
            [torch.ao.quantization.quantize_dynamic(PLAIN().eval(), {nn.Linear})],
        ),
        "expected-more-than-1-value": (
            [torch.compile(batch_normed(), backend="eager"), torch.jit.script(batch_normed())],
            [torch.compile(batch_normed().eval(), backend="eager")],
        ),
        "distributed-sampler": (
            [{"sampler": DistributedSampler(range(10), 4, 0, drop_last=True)}],
            [{"sampler": DistributedSampler(range(12), 4, 0, drop_last=True)}],
        ),
        "mc-dropout-no-variance": (
            [
                recipe(Function(lambda self, x: F.dropout(x, 0.5, self.training))),
                recipe(net(nn.Dropout1d())),
                DROPS().eval(),
            ],
            [DROPS()],
        ),
        "worse-in-eval": (
            [
                {"model": deep(steps=5), "train_x": deep_images()},
                {"model": poisoned_in_training(), "train_x": X},
            ],
            [{"model": deep(steps=200), "train_x": deep_images()}],
        ),
        "same-for-every-input": (
            [batch_normed(momentum=1.0, batches=1, data=1e6 * X)],
            [net(nn.Dropout(0.9)), Function(lambda self, x: 1e-6 * self.body(x), body=PLAIN())],
        ),
        "spectral-norm": ([], [nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)).eval()]),
        "own-train-method": ([], [KeepsABody(), nn.Sequential(KeepsABody())]),
        "own-eval-method": ([], [Merges()]),
        "ppo-ratio": ([], [policy(0.5, updates_in_train_mode=False)]),
        "no-grad-is-not-enough": (
            [DROPS().eval().append(nn.Dropout())],
            [],
        ),
        "zero-stage-3": ([nn.Sequential(DROPS().eval(), nn.Linear(3, 2))], []),
        "keep-prob": ([nn.Dropout2d(0.8), nn.LSTM(4, 4, 2, dropout=0.8)], [nn.LSTM(4, 4)]),
        "memory-grows": (
            [{"kept": [(PLAIN()(X), 1)]}, {"kept": [{"loss": PLAIN()(X).sum()}]}],
            [{"kept": [({"loss": 0.5}, PLAIN()(X).detach())]}],
        ),
        "two-calls-differ": ([], [Function(lambda self, x: x / torch.zeros(4))]),
        "same-mode": ([], [{"conv": nn.Conv2d(1, 1, 1), "norm": nn.BatchNorm2d(1)}]),
        "eval-or-no-grad": ([{"model": DROPS(), "gradients": False}], []),
        "backward-in-eval": ([], [PLAIN().requires_grad_(False)]),
        "inference-tensors": (
            [keeping(lambda value: {"a": [value]}), keeping(lambda v: SimpleNamespace(kv=[v]))],
            [keeping(lambda value: value.sum().item())],
        ),
        "exported-eval": (
            [exported(True, nn.BatchNorm1d(4)), exported_rnn(training=True)],
            [exported(False, nn.BatchNorm1d(4)), exported_rnn(training=False)],
        ),
        "export-mixed-modes": (
            [exported_in_a_block(mixed=True)],
            [exported_in_a_block(mixed=False), exported(False, nn.BatchNorm1d(4, momentum=1.0))],
        ),
        "libtorch": (
            [
                {"model": resnet, "module": torch.jit.trace(resnet, X, check_trace=False)},
                {
                    "model": tracked,
                    "module": torch.jit.trace(tracked, X[:, None], check_trace=False),
                    "x": X[:, None],
                },
            ],
            [{"model": resnet, "module": torch.jit.trace(batch_normed().eval(), X)}],
        ),
        "eval-norm-still-learns": ([], [net(nn.BatchNorm1d(4, affine=False))]),
    }


def printed(name, given):
    names = {"model": given} if isinstance(given, nn.Module) else given
    names = {"torch": torch, "x": X, **names}
    with (
        torch.set_grad_enabled(names.get("gradients", True)),
        redirect_stdout(io.StringIO()) as out,
    ):
        torch.manual_seed(0)
        exec(compile(CHECKS[name], name, "exec"), names)
    return out.getvalue().split()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*nested.tensor.*")
@pytest.mark.parametrize("name", CHECKS)
def test_a_check_tells_the_fault_from_its_absence(cases, name):
    faulty, healthy = cases[name]
    for given in faulty:
        assert printed(name, given) == ["True"], given
    for given in healthy:
        assert printed(name, given) == ["False"], given


def test_each_entry_has_a_proof_and_each_check_a_case(cases):
    assert set(cases) == set(CHECKS)
    assert [name for name, text in ENTRIES.items() if "*Proof:*" not in text] == []
    assert set(ENTRIES) - set(CHECKS) == {"checkpointing"}
