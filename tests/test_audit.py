"""The audit against planted bugs, and against innocent models that look like them."""

import copy
import dataclasses
import random
import re
import subprocess
import sys
import threading
from collections import OrderedDict, UserDict, deque, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from utils.audit import audit
from utils.batch_norm import reestimate
from utils.command import main
from utils.modes import keep_in_eval

BATCH = 16


pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Please use quant_min:UserWarning"),
]


def trained(model, *inputs, steps=60):
    """Let running statistics settle, as training would."""
    model.train()
    with torch.no_grad():
        for _ in range(steps):
            model(*inputs)
    return model.eval()


def rows(*shape, seed=0):
    return torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(seed))


class Calls(nn.Module):
    """A model whose forward is given, with a layer before and one after."""

    def __init__(self, forward, **modules):
        super().__init__()
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 4)
        self.inside = Inside(forward, modules)

    def forward(self, x):
        return self.last(self.inside(self.first(x)))


class Inside(nn.Module):
    def __init__(self, forward, modules):
        super().__init__()
        self.call = [forward]
        for name, value in modules.items():
            if isinstance(value, torch.Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, x):
        return self.call[0](self, x)


def attend(self, x):
    q = x.unsqueeze(1)
    heads = torch.cat([q, q * 2, q - 1], 1)
    return F.scaled_dot_product_attention(heads, heads, heads, dropout_p=0.3).mean(1)


def moving_average(self, x):
    self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
    return x - self.mean


def moving_buffer(self, x):
    self.total += x.detach().abs().mean()
    return x


def attribute_for_training(self, x):
    self.scale = 0.5 * self.scale + 0.5 * float(x.detach().abs().mean())
    return x * self.scale if self.training else x


def switch_to_train(self, x):
    self.drop.train()
    x = self.drop(x)
    self.drop.eval()
    return x


def leave_in_train(self, x):
    self.train()
    return x


def leave_in_eval(self, x):
    self.eval()
    return x


def from_gradients(self, x):
    return F.dropout(x, 0.5, torch.is_grad_enabled())


def previous(self, x):
    last, self.last = getattr(self, "last", None), x.detach()
    return x if last is None else x + 0.1 * last


def actnorm(self, x):
    if not bool(self.ready):
        self.shift.copy_(x.detach().mean(0))
        self.ready.fill_(True)
    return x - self.shift


PLANTED = {
    "functional dropout with its default": (
        lambda: Calls(lambda self, x: F.dropout(x, 0.2)),
        {"random-in-eval"},
        "inside",
    ),
    "a small rate of dropped paths": (
        lambda: Calls(lambda self, x: x * (torch.rand(len(x), 1) > 0.02)),
        {"random-in-eval"},
        "inside",
    ),
    "attention with a dropout": (lambda: Calls(attend), {"random-in-eval"}, "inside"),
    "sampling": (
        lambda: Calls(lambda self, x: x + torch.randn_like(x)),
        {"random-in-eval"},
        "inside",
    ),
    "numpy noise": (
        lambda: Calls(lambda self, x: x + float(np.random.rand())),
        {"random-in-eval"},
        "inside",
    ),
    "python noise": (
        lambda: Calls(lambda self, x: x if random.random() > 0.5 else 2 * x),
        {"random-in-eval"},
        "inside",
    ),
    "a generator of its own": (
        lambda: Calls(
            lambda self, x: x + torch.rand(1, generator=self.generator),
            generator=torch.Generator().manual_seed(0),
        ),
        {"random-in-eval"},
        "inside",
    ),
    "a dropout in a list": (
        lambda: Calls(lambda self, x: self.layers[0](x), layers=[nn.Dropout()]),
        {"random-in-eval"},
        "inside",
    ),
    "a dropout in a closure": (
        lambda: Calls((lambda drop: lambda self, x: drop(x))(nn.Dropout())),
        {"random-in-eval"},
        "inside",
    ),
    "a dropout made in forward": (
        lambda: Calls(lambda self, x: nn.Dropout(0.3)(x)),
        {"random-in-eval"},
        "inside",
    ),
    "a layer made in forward": (
        lambda: Calls(lambda self, x: nn.Linear(8, 8)(x)),
        {"random-in-eval"},
        "inside",
    ),
    "an own flag": (
        lambda: Calls(lambda self, x: F.dropout(x, 0.5, self.is_training), is_training=True),
        {"mode-from-elsewhere"},
        "inside",
    ),
    "batch norm without statistics": (
        lambda: Calls(
            lambda self, x: self.norm(x), norm=nn.BatchNorm1d(8, track_running_stats=False)
        ),
        {"depends-on-batch"},
        "inside.norm",
    ),
    "own normalisation over the batch": (
        lambda: Calls(lambda self, x: (x - x.mean(0)) / (x.std(0) + 1e-5)),
        {"depends-on-batch"},
        "inside",
    ),
    "softmax over the batch": (
        lambda: Calls(lambda self, x: x.softmax(0)),
        {"depends-on-batch"},
        "inside",
    ),
    "a batch norm in a list": (
        lambda: Calls(lambda self, x: self.layers[0](x), layers=[nn.BatchNorm1d(8)]),
        {"depends-on-batch", "depends-on-history"},
        "inside",
    ),
    "an attribute that moves": (
        lambda: Calls(moving_average, mean=0.0),
        {"moves-in-eval"},
        "inside",
    ),
    "a buffer that moves": (
        lambda: Calls(moving_buffer, total=torch.zeros(())),
        {"moves-in-eval"},
        "inside",
    ),
    "a number that moves and matters in training": (
        lambda: Calls(attribute_for_training, scale=1.0),
        {"moves-in-eval"},
        "inside",
    ),
    "a forward that switches a child": (
        lambda: Calls(switch_to_train, drop=nn.Dropout()),
        {"switches-mode", "random-in-eval"},
        "inside",
    ),
    "a forward that calls train": (lambda: Calls(leave_in_train), {"switches-mode"}, "inside"),
    "a forward that calls eval": (lambda: Calls(leave_in_eval), {"switches-mode"}, "inside"),
    "the gradient mode": (lambda: Calls(from_gradients), {"mode-from-elsewhere"}, "inside"),
    "the last input": (lambda: Calls(previous), {"depends-on-history", "moves-in-eval"}, "inside"),
    "set up by the first batch": (
        lambda: Calls(actnorm, shift=torch.zeros(8), ready=torch.tensor(False)),
        {"depends-on-history"},
        "inside",
    ),
    "an output that is not finite": (
        lambda: Calls(lambda self, x: x / (x - x)),
        {"non-finite-output"},
        "inside",
    ),
}


class Overrides(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout())
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.body(x))


class FlagOnly(Overrides):
    def train(self, mode=True):
        self.training = mode
        return self


class AlwaysTrain(Overrides):
    def train(self, mode=True):
        return super().train(True)


class NeverBack(Overrides):
    def train(self, mode=True):
        return super().train(False)


class ReturnsNothing(Overrides):
    def train(self, mode=True):
        super().train(mode)


class EmptyEval(Overrides):
    def eval(self):
        return self


def statistics_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16)
    )


class Shared(nn.Module):
    def __init__(self, gain):
        super().__init__()
        self.first, self.norm, self.gain = nn.Linear(8, 8), nn.BatchNorm1d(8), gain

    def forward(self, x):
        one = self.norm(self.first(x))
        return one + self.norm(self.first(x.flip(1) * self.gain[0] + self.gain[1]))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x):
        out = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(x + self.norm2(self.conv2(out)))


def resnet():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        Block(8),
        Block(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.bottom = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU())
        self.drop = nn.Dropout2d(0.2)
        self.up = nn.ConvTranspose2d(8, 8, 2, 2)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x):
        skip = self.down(x)
        deep = self.drop(self.bottom(F.max_pool2d(skip, 2)))
        return {"mask": self.out(torch.cat([skip, self.up(deep)], 1))}


class Tagger(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.embed = nn.Embedding(30, 8, padding_idx=0)
        self.rnn = nn.GRU(8, 8, 2, batch_first=batch_first, dropout=0.3, bidirectional=True)
        self.head = nn.Linear(16, 5)

    def forward(self, tokens):
        return self.head(self.rnn(self.embed(tokens))[0])


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(8, 4), nn.Linear(2, 8)

    def forward(self, x):
        mean, log_var = self.encode(x).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (log_var / 2).exp() if self.training else mean
        return self.decode(code), mean, log_var


@dataclass
class Boxes:
    boxes: torch.Tensor
    scores: torch.Tensor


class Detector(nn.Module):
    """Losses in train mode, boxes in eval mode."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, images, targets=None):
        features = torch.stack([self.body(image[None])[0].mean((1, 2)) for image in images])
        out = self.head(features)
        if self.training:
            assert targets is not None
            return {"loss": (out[:, :4] - torch.stack(targets)).abs().mean()}
        keep = [row[4] > -10 for row in out]
        return [Boxes(row[:4][None][k[None]], row[4:][k[None]]) for row, k in zip(out, keep)]


class Encoder(nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.embed = nn.Embedding(30, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, **kwargs)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens, pooled=True):
        hidden = tokens == 0
        out = self.encoder(self.embed(tokens), src_key_padding_mask=hidden)
        if not pooled:
            return self.head(out)
        kept = (~hidden).unsqueeze(-1)
        return self.head((out * kept).sum(1) / kept.sum(1))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.norm = nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = self.norm(torch.cat([self.token.expand(len(x), -1, -1), x], 1))
        return self.head((x + self.attention(x, x, x)[0])[:, 0])


class Cached(nn.Module):
    """A mask made at the first call, the last attention kept, calls counted."""

    def __init__(self):
        super().__init__()
        self.layer, self.cache, self.calls = nn.Linear(8, 8), {}, 0
        self.register_buffer("positions", None, persistent=False)

    def forward(self, x):
        self.calls += 1
        if self.positions is None:
            self.positions = torch.arange(8.0)
        if x.shape[1] not in self.cache:
            self.cache[x.shape[1]] = torch.arange(float(x.shape[1]))
        self.last = self.layer(x + self.positions)
        return self.last * self.cache[x.shape[1]]


class FrozenNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout())
        self.head = nn.Linear(8, 4)

    def train(self, mode=True):
        super().train(mode)
        self.body[1].eval()
        return self

    def forward(self, x):
        return self.head(self.body(x))


class HoldsItself(nn.Module):
    """Layers called through a function that knows the model: a copy would call the original."""

    def __init__(self):
        super().__init__()
        self.layer, self.drop = nn.Linear(8, 8), nn.Dropout()
        self.steps = [lambda x: self.drop(self.layer(x))]

    def forward(self, x):
        return self.steps[0](x)


class Clip(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        a, b = self.one(x), self.two(x)
        return {"embedding": a, "logits": a @ b.T}


class Pointer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x):
        return self.layer(x).masked_fill(torch.tensor([True, False, False, False]), -torch.inf)


def quantised():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    model = torch.ao.quantization.prepare_qat(model.train())
    for _ in range(3):
        model(rows(8))
    return model.apply(torch.ao.quantization.disable_observer)


def spectral(old):
    norm = nn.utils.spectral_norm if old else nn.utils.parametrizations.spectral_norm
    model = nn.Sequential(norm(nn.Linear(8, 8)), nn.LeakyReLU(), norm(nn.Linear(8, 1)))
    model(rows(8))
    return model


def tied():
    layer = nn.Linear(8, 8)
    return nn.Sequential(layer, nn.ReLU(), layer)


images = rows(3, 8, 8)


tokens = torch.randint(1, 30, (BATCH, 6), generator=torch.Generator().manual_seed(0))


padded = tokens * (torch.arange(6) < torch.arange(BATCH).unsqueeze(1) % 5 + 2)


INNOCENT = {
    "mlp": lambda: (nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout()), rows(8)),
    "fresh resnet": lambda: (resnet(), images),
    "trained resnet": lambda: (trained(resnet(), images), images),
    "resnet in half precision": lambda: (trained(resnet(), images).bfloat16(), images.bfloat16()),
    "fresh u-net": lambda: (UNet(), images),
    "tagger": lambda: (Tagger(True), tokens),
    "sequence first": lambda: (Tagger(False), tokens.T.contiguous()),
    "lstm, sequence first": lambda: (nn.LSTM(8, 8, 2, dropout=0.5), rows(5, 8).movedim(1, 0)),
    "vae": lambda: (VAE(), rows(8)),
    "discriminator": lambda: (spectral(old=False), rows(8)),
    "discriminator, old": lambda: (spectral(old=True), rows(8)),
    "weight norm": lambda: (nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), rows(8)),
    "vit": lambda: (ViT(), images),
    "detector": lambda: (Detector(), (list(images),)),
    "qat": lambda: (quantised(), rows(8)),
    "padded transformer": lambda: (Encoder(), padded),
    "padded transformer, all positions": lambda: (Encoder(), (padded, False)),
    "transformer without nested tensors": lambda: (Encoder(enable_nested_tensor=False), tokens),
    "decoder": lambda: (
        nn.Transformer(16, 2, 1, 1, 32, batch_first=True),
        (rows(5, 16), rows(6, 16)),
    ),
    "transformer, sequence first": lambda: (
        nn.TransformerEncoderLayer(16, 2, 32),
        rows(5, 16).movedim(1, 0),
    ),
    "caches": lambda: (Cached(), rows(8)),
    "frozen batch norm": lambda: (FrozenNorm(), rows(8)),
    "frozen and trained": lambda: (trained(FrozenNorm(), rows(8)).train(), rows(8)),
    "functions that hold the model": lambda: (HoldsItself(), rows(8)),
    "shared weights": lambda: (tied(), rows(8)),
    "similarities of a batch": lambda: (Clip(), rows(8)),
    "masked logits": lambda: (Pointer(), rows(8)),
    "scripted": lambda: (torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.Dropout())), rows(8)),
    "group and layer norm": lambda: (
        nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.LayerNorm(8)),
        images,
    ),
    "instance norm": lambda: (nn.Sequential(nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8)), images),
    "no parameters": lambda: (nn.Identity(), rows(8)),
    "one number": lambda: (nn.Identity(), torch.tensor(1.0)),
    "one sample": lambda: (nn.Linear(8, 8), rows(8)[:1]),
    "indices": lambda: (nn.EmbeddingBag(30, 4), tokens),
}


class Hooked(nn.Module):
    """A hook that moves a buffer: a copy's hook would move the original's."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.register_buffer("mean", torch.zeros(8))
        self.seen = {}
        self.layer.register_forward_hook(self._note())

    def _note(self):
        def note(module, inputs, output):
            self.mean.mul_(0.9).add_(0.1 * output.detach().mean(0))
            self.seen["last"] = output.detach()

        return note

    def forward(self, x):
        return self.layer(x) - self.mean


class Graph(nn.Module):
    def forward(self, x, edges):
        return x.index_add(0, edges[1], x[edges[0]])


@dataclass
class Settings:
    phase: str = "train"


def kinds(model, *inputs):
    return {(finding.kind, finding.module) for finding in audit(model, inputs).findings}


class Dropping(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.1)


class Centring(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.drop = nn.Linear(32, 32), Dropping()

    def forward(self, x):
        return x + 0.5 * self.drop(self.layer(x))


# -- planted bugs and innocent models ------------------------------------------------------------


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_planted_bug_is_found_and_nothing_else_is_blamed(name, mode):
    build, kinds, module = PLANTED[name]
    torch.manual_seed(0)
    model = build().train(mode == "train")
    report = audit(model, rows(8))
    assert report.findings, report
    blamed = {finding.module for finding in report.findings}
    extra = {"inside.drop"} if name == "a forward that switches a child" else set()
    assert blamed <= {module} | extra, report
    assert kinds & {finding.kind for finding in report.findings}, report
    assert all(finding.evidence and finding.cure for finding in report.findings)


@pytest.mark.parametrize("name", INNOCENT)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_innocent_model_is_left_alone_and_unchanged(name, mode):
    torch.manual_seed(0)
    model, inputs = INNOCENT[name]()
    if "frozen" not in name and name != "qat":
        model.train(mode == "train")
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    torch.manual_seed(7)
    before = torch.get_rng_state()
    report = audit(model, inputs)
    assert report.findings == [], report
    assert torch.equal(torch.get_rng_state(), before)
    assert modes == [module.training for module in model.modules()]
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key


# -- the switch itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [FlagOnly, AlwaysTrain, NeverBack, ReturnsNothing, EmptyEval])
@pytest.mark.parametrize("nested", [False, True])
def test_a_switch_that_does_not_switch(wrong, nested):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), wrong()) if nested else wrong()
    kinds = {(f.kind, f.module) for f in audit(model, rows(8)).findings}
    expected = "1" if nested else ""
    not_followed = {(k, m) for k, m in kinds if k.endswith("-not-followed")}
    if nested and wrong in (EmptyEval, NeverBack):
        # A parent's eval() calls train(False) on its children, which works; a part that stays in
        # eval mode by its own override is frozen on purpose.
        assert not not_followed
    else:
        assert not_followed and {m for _, m in not_followed} == {expected}, kinds


def test_modes_that_are_mixed_now():
    torch.manual_seed(0)
    model = trained(statistics_model(), rows(8)).train()
    model[1].eval()
    assert [(f.kind, f.module) for f in audit(model, rows(8)).findings] == [
        ("thaws-with-train", "1")
    ]
    keep_in_eval(model[1])
    assert audit(model, rows(8)).findings == []
    model = trained(statistics_model(), rows(8))
    model[4].train()
    assert [(f.kind, f.module) for f in audit(model, rows(8)).findings] == [("mixed-modes", "4")]


def test_follow_ups_of_a_mode_that_was_missed_say_so():
    class Switches(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.tower = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.Dropout())

        def forward(self, x):
            self.train()
            return self.body(x) + self.tower(x)

    findings = audit(Switches().eval(), rows(8)).findings
    assert {f.module for f in findings if f.kind == "switches-mode"} == {""}
    cures = {f.cure for f in findings if f.kind == "random-in-eval"}
    assert cures == {"it runs in train mode in spite of eval(): mend that first"}


def test_only_the_call_that_raises_is_named():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def train(self, mode=True):
            if not mode:
                raise NotImplementedError("no eval mode")
            return super().train(mode)

        def forward(self, x):
            return self.layer(x)

    assert {kind for kind, _ in kinds(Stubborn(), rows(8))} == {"eval-not-followed"}


def test_a_flag_in_a_settings_object_is_named():
    model = Calls(
        lambda self, x: F.dropout(x, 0.5, self.settings.phase == "train"), settings=Settings()
    )
    (finding,) = audit(model, rows(8)).findings
    assert finding.kind == "mode-from-elsewhere" and "settings.phase" in finding.evidence
    assert model.inside.settings.phase == "train"


# -- running statistics --------------------------------------------------------------------------


def test_running_statistics():
    data = rows(8)
    right = trained(statistics_model(), data)
    assert audit(right, data).findings == []

    broken = copy.deepcopy(right)
    broken[1].running_var[3] = float("nan")
    found = {(f.kind, f.module) for f in audit(broken, data).findings}
    assert ("non-finite-statistics", "1") in found
    assert {m for k, m in found if k == "non-finite-statistics"} == {"1"}

    never = copy.deepcopy(right)
    never[4].reset_running_stats()
    assert [(f.kind, f.module) for f in audit(never, data).findings] == [
        ("statistics-never-updated", "4")
    ]

    far = audit(right, 20 * data + 50).findings
    assert [(f.kind, f.module) for f in far] == [("statistics-far-off", "1")]


@pytest.mark.parametrize(
    ("scale", "shift", "said"),
    [(1000, 0, "variance .* larger"), (1, 50, "mean .* standard deviations"), (5, 3, None)],
)
def test_one_feature_in_other_units(scale, shift, said):
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3))
    for _ in range(100):
        model(torch.randn(32, 8))
    data = torch.randn(32, 8)
    data[:, 0] = scale * data[:, 0] + shift
    found = audit(model.eval(), data).findings
    assert [f.kind for f in found] == ["statistics-far-off"] * (said is not None)
    assert said is None or re.search(f"{said}.*in the channel that is furthest", found[0].evidence)


def test_statistics_never_updated_in_a_trained_model():
    model = statistics_model()
    for index in (1, 4):
        nn.init.normal_(model[index].weight, 1, 0.2)
        nn.init.normal_(model[index].bias, 0, 0.2)
    found = audit(model.eval(), rows(8)).findings
    assert {(f.kind, f.module) for f in found} == {
        ("statistics-never-updated", "1"),
        ("statistics-never-updated", "4"),
    }


@pytest.mark.parametrize("momentum", [0.1, 0.01])
@pytest.mark.parametrize("batches", [1, 5, 17])
@pytest.mark.parametrize("scale", [0.01, 1, 30])
@pytest.mark.parametrize("again", [reestimate, lambda model, loader: update_bn(loader, model)])
def test_statistics_that_were_estimated_again_fit(again, scale, batches, momentum):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, momentum=momentum), nn.ReLU())
    with torch.no_grad():
        model[0].weight.mul_(scale)
    late = copy.deepcopy(model)
    late.train()(rows(8))
    assert kinds(late.eval(), 1000 * rows(8)) == {("statistics-far-off", "1")}
    again(model.eval(), [rows(8, seed=seed) for seed in range(batches)])
    assert kinds(model, rows(8)) == set()


def test_one_layer_shared_by_unlike_streams():
    torch.manual_seed(0)
    data = rows(8)
    like = trained(Shared((1.0, 0.0)), data)
    assert audit(like, data).findings == []
    unlike = trained(Shared((6.0, 4.0)), data)
    assert ("shared-by-unlike-inputs", "norm") in {
        (f.kind, f.module) for f in audit(unlike, data).findings
    }


def test_initial_weights_of_any_kind_are_no_finding():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    for layer in (model[0], model[3]):
        nn.init.normal_(layer.weight, 0, 0.02)
    nn.init.normal_(model[1].weight, 1, 0.02)
    assert audit(model, images).findings == []
    model.train()
    for _ in range(3):
        model(images)
    assert audit(model, images).findings == []


def test_rare_features_fit_their_statistics():
    def bag_of_words():
        return (torch.rand(16, 200) < 0.02).float()

    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(200), nn.Linear(200, 2)).train()
    for _ in range(300):
        model(bag_of_words())
    assert not kinds(model, bag_of_words())
    assert kinds(model, bag_of_words() / 4) == {("statistics-far-off", "0")}


# -- samples in a batch --------------------------------------------------------------------------


def test_nodes_of_a_graph_are_no_samples():
    report = audit(Graph(), (rows(8), torch.tensor([[0, 1, 2], [1, 2, 0]])))
    assert report.findings == [] and "graph" in report.notes[0]


@pytest.mark.parametrize("size", [2, 3, 6, 16])
def test_detections_that_mix_samples(size):
    class Boxes(nn.Module):
        def __init__(self, norm):
            super().__init__()
            self.layer, self.norm = nn.Linear(6, 6), norm

        def forward(self, x):
            return [{"scores": row} for row in self.norm(self.layer(x))]

    mixing = Boxes(nn.BatchNorm1d(6, track_running_stats=False))
    assert kinds(mixing, torch.randn(size, 6)) == {("depends-on-batch", "norm")}
    assert not kinds(Boxes(nn.LayerNorm(6)), torch.randn(size, 6))


@pytest.mark.parametrize("shape", [(16, 5, 8), (16, 3, 8, 8), (6, 8)])
def test_normalising_over_the_batch_by_hand(shape):
    for wrong in (Centring(), nn.Softmax(dim=0)):
        model = nn.Sequential(nn.Linear(8, 8), wrong, nn.Linear(8, 2))
        assert kinds(model, torch.randn(shape)) == {("depends-on-batch", "1")}


def test_a_norm_made_in_forward():
    def made(count):
        def forward(self, x):
            for _ in range(count):
                x = nn.BatchNorm1d(8)(x)
            return x

        return forward

    for count in (1, 2):
        assert ("depends-on-batch", "inside") in kinds(Calls(made(count)), rows(8))

    def lazily(self, x):
        if not hasattr(self, "norm"):
            self.norm = nn.BatchNorm1d(8)
        return self.norm(x)

    assert "inside" in {module for _, module in kinds(Calls(lazily), rows(8))}


def test_selecting_among_the_samples_is_seen_with_any_seed():
    class TopHalf(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.expert = nn.Linear(8, 1), nn.Linear(8, 8)

        def forward(self, x):
            chosen = self.gate(x).squeeze(-1).topk(max(1, len(x) // 2)).indices
            out = x.clone()
            out[chosen] = self.expert(x[chosen])
            return out

    missed = 0
    for seed in range(10):
        torch.manual_seed(seed)
        missed += not kinds(TopHalf(), torch.randn(16, 8))
    assert missed == 0


def test_images_of_several_sizes_are_samples():
    class Means(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.dim = dim

        def forward(self, images):
            return torch.stack([image.mean((1, 2)) for image in images]).softmax(self.dim)

    images = [torch.randn(3, 8 + index, 9) for index in range(4)]
    assert kinds(Means(0), images) == {("depends-on-batch", "")}
    assert not kinds(Means(1), images)


def test_a_recurrent_layer_before_the_culprit_is_not_blamed():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm, self.out = nn.Embedding(30, 8), Centring(), nn.Linear(8, 3)
            self.layer = nn.LSTM(8, 8, batch_first=True)

        def forward(self, x):
            return self.out(self.norm(self.layer(self.embed(x))[0]))

    assert kinds(Tagger(), torch.randint(0, 30, (6, 9))) == {("depends-on-batch", "norm")}


# -- one answer: precision, seeds, history -------------------------------------------------------


def test_half_precision_hides_no_bug():
    model = nn.Sequential(Residual(), Residual()).bfloat16()
    assert kinds(model, rows(32).bfloat16()) == {
        ("random-in-eval", "0.drop"),
        ("random-in-eval", "1.drop"),
    }
    norm = nn.BatchNorm1d(32, track_running_stats=False)
    model = nn.Sequential(nn.Linear(8, 32), norm, nn.Linear(32, 4)).bfloat16()
    assert kinds(model, rows(8).bfloat16()) == {("depends-on-batch", "1")}
    sound = nn.Sequential(nn.Linear(8, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 4))
    assert not kinds(sound.bfloat16(), rows(8).bfloat16())


def test_a_state_that_is_carried_gets_the_cure_for_it():
    class Carries(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.state = nn.GRU(8, 8, batch_first=True), None

        def forward(self, x):
            out, state = self.layer(x, self.state)
            self.state = state.detach()
            return out

    (finding,) = audit(Carries(), torch.randn(4, 5, 8)).findings
    assert "pass it in and return it" in finding.cure

    class Cache(nn.Module):
        def __init__(self):
            super().__init__()
            self.keys = []

        def forward(self, x):
            self.keys.append(x.detach())
            keys = torch.cat(self.keys)
            return (x @ keys.T).softmax(-1) @ keys

    model = nn.Sequential(nn.Linear(8, 8), Cache(), nn.Linear(8, 2))
    assert ("depends-on-history", "1") in kinds(model, rows(8))


def test_randomness_that_no_seed_repeats_is_one_finding():
    def fresh_generator(self, x):
        return x + torch.from_numpy(np.random.default_rng().standard_normal(8)).float()

    report = audit(Calls(fresh_generator), rows(8))
    assert [finding.kind for finding in report.findings] == ["random-in-eval"]
    assert any("two calls with one seed differ" in note for note in report.notes)


def test_values_that_are_not_finite_in_complex_outputs():
    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x) * float("nan")

    assert kinds(Spectrum(), rows(8)) == {("non-finite-output", "")}


@pytest.mark.filterwarnings("ignore")
def test_an_answer_that_hangs_on_the_fast_path_is_noted():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
            self.encoder, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(8, 2)

        def forward(self, x, hidden):
            return self.head(self.encoder(x, src_key_padding_mask=hidden).mean(1))

    torch.manual_seed(0)
    model, x = Pooled().eval(), torch.randn(2, 5, 8)
    padded = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    assert any("fast path" in note for note in audit(model, (x, padded)).notes)
    whole = torch.zeros(2, 5, dtype=torch.bool)
    assert not any("fast path" in note for note in audit(model, (x, whole)).notes)


# -- the model is left as it was -----------------------------------------------------------------


def test_a_hook_that_knows_the_model_leaves_the_model_alone():
    model = Hooked().eval()
    before = model.mean.clone()
    found = audit(model, rows(8)).findings
    assert "moves-in-eval" in {finding.kind for finding in found}
    assert torch.equal(model.mean, before) and model.seen == {}


def test_an_attribute_that_cannot_be_copied_is_put_back():
    model = Calls(lambda self, x: self.box.__setitem__("n", self.box["n"] + 1) or x)
    model.inside.box = {"lock": threading.Lock(), "n": 0}
    assert audit(model, rows(8)).findings == []
    assert model.inside.box["n"] == 0


def test_global_switches_are_put_back_even_after_an_error():
    def forward(self, x):
        torch.set_default_dtype(torch.float64)
        raise RuntimeError("on purpose")

    with pytest.raises(ValueError, match=r"Calls fails on them.*on purpose"):
        audit(Calls(forward), rows(8))
    assert torch.get_default_dtype() == torch.float32


def test_a_recurrent_model_is_copied_too():
    layer, x = nn.LSTM(8, 8), torch.randn(7, 5, 8)
    out, _ = layer(x)
    audit(layer, x)
    out.sum().backward()  # would fail if a weight had been written to

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.generator = nn.GRU(8, 8, batch_first=True), np.random.default_rng(0)

        def forward(self, x):
            return self.layer(x * self.generator.random() if self.training else x)[0]

    model = Own()
    before = str(model.generator.bit_generator.state)
    assert not kinds(model, torch.randn(4, 5, 8))
    assert str(model.generator.bit_generator.state) == before


def test_a_compiled_part_is_run_as_it_was_written():
    from torch.nn.modules import module as torch_module

    hooks = len(torch_module._global_forward_hooks_with_kwargs)
    part = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.2))
    compiled = torch.compile(part, backend=lambda graph, inputs: graph)
    assert not kinds(nn.Sequential(compiled, nn.Linear(8, 2)), rows(8))
    assert len(torch_module._global_forward_hooks_with_kwargs) == hooks


@pytest.mark.filterwarnings("ignore")
def test_observers_that_make_room_for_their_channels_are_put_back():
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU()).train()
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")
    model = torch.ao.quantization.prepare_qat(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    found = kinds(model, rows(8))
    assert ("moves-in-eval", "0.activation_post_process") in found
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, before[name])


# -- arguments and reports -----------------------------------------------------------------------


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match="model is a str"):
        audit("net", rows(8))
    with pytest.raises(ValueError, match=r"lazy parameters \(weight"):
        audit(nn.LazyLinear(3), rows(8))
    with pytest.raises(ValueError, match="the model on meta"):
        audit(nn.Linear(8, 3, device="meta"), rows(8))
    model = nn.Linear(8, 3).train()
    with pytest.raises(ValueError, match="fails on them in eval mode"):
        audit(model, rows(5))
    assert model.training


def test_keyword_arguments_and_dicts_reach_the_model():
    assert audit(nn.Bilinear(8, 8, 3), rows(8), {"input2": rows(8)}).findings == []

    class Takes(nn.Module):
        def forward(self, batch):
            return {"out": batch["x"] - batch["x"].mean(0)}

    for inputs in ({"x": rows(8)}, ({"x": rows(8)},)):
        assert [f.kind for f in audit(Takes(), inputs).findings] == ["depends-on-batch"]


def test_a_report_prints_renders_and_raises():
    report = audit(Calls(lambda self, x: F.dropout(x)), rows(8))
    assert "random-in-eval  at  inside" in str(report)
    assert "<table>" in report._repr_html_() and "inside" in report._repr_html_()
    with pytest.raises(AssertionError, match="1 finding"):
        report.raise_for_findings()
    audit(nn.Identity(), rows(8)).raise_for_findings()


def test_the_command(tmp_path, capsys):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return nn.functional.dropout(x)\n"
    )
    command = [sys.executable, "-m", "evalmode", "audit"]
    run = subprocess.run(
        [*command, "nets:Net", "--input", "8,4"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 1 and "random-in-eval" in run.stdout
    assert main(["audit", "torch.nn:Identity", "--input", "8,16:1000"]) == 0
    assert main(["audit", "torch.nn:GELU", "--input", "8,16:1000"]) == 2
    for wrong in (
        ["audit", "torch.nn", "--input", "8"],
        ["audit", "torch.nn:Nothing", "--input", "8"],
    ):
        with pytest.raises(SystemExit, match="model is 'torch.nn"):
            main(wrong)
    with pytest.raises(SystemExit):
        main(["audit", "torch.nn:Identity", "--input", "8;4"])
    assert "expected sizes such as" in capsys.readouterr().err


# -- what others write, send and override ------------------------------------------------------


class WritesNoise(nn.Module):
    """A parent that draws the weight of a plain child."""

    def __init__(self):
        super().__init__()
        self.child = nn.Linear(8, 8, bias=False)
        self.raw = nn.Parameter(self.child.weight.detach().clone())
        del self.child.weight

    def forward(self, x):
        self.child.weight = F.dropout(self.raw, 0.5)
        return self.child(x)


def test_who_wrote_a_weight_is_blamed_and_not_who_used_it():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), WritesNoise())
    assert kinds(model, rows(8)) == {("random-in-eval", "1")}


Pair = namedtuple("Pair", "x weight")


@dataclasses.dataclass
class Record:
    x: torch.Tensor
    weight: torch.Tensor


class CentredPair(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 3)

    def forward(self, batch):
        x, weight = (batch["x"], batch["weight"]) if isinstance(batch, UserDict) else (
            batch.x, batch.weight
        )  # fmt: skip
        h = self.layer(x) * weight[:, None]
        return h - h.mean(0)


@pytest.mark.parametrize("kind", [Pair, Record, lambda x, weight: UserDict(x=x, weight=weight)])
def test_samples_are_found_in_containers_of_any_class(kind):
    torch.manual_seed(0)
    batch = kind(rows(8), torch.ones(len(rows(8))))
    assert ("depends-on-batch", "") in kinds(CentredPair(), batch)


class Overridden(nn.Linear):
    gain = 2.0

    def eval(self):
        super().eval()
        self.gain = 1.0
        return self

    def forward(self, x):
        return self.gain * super().forward(x)


def test_an_eval_that_nobody_calls_is_named():
    assert ("eval-not-followed", "0") in kinds(nn.Sequential(Overridden(8, 8)), rows(8))
    assert kinds(Overridden(8, 8), rows(8)) == set()


class Yields(nn.Linear):
    def forward(self, x):
        for _ in range(2):
            x = F.dropout(super().forward(x))
            yield x


def test_a_forward_that_yields_is_run():
    assert ("random-in-eval", "") in kinds(Yields(8, 8), rows(8))


class Attends(nn.Module):
    """The largest score of all is subtracted, which is exact where each row keeps a token."""

    def __init__(self):
        super().__init__()
        self.embed, self.score = nn.Embedding(20, 4), nn.Linear(4, 1)

    def forward(self, tokens, mask):
        x = self.embed(tokens)
        weight = self.score(x)[..., 0].masked_fill(mask == 0, float("-inf")).softmax(-1)
        pooled = (weight[..., None] * x).sum(1)
        return (pooled - pooled.max()).softmax(-1)


def test_companions_are_inputs_that_could_have_been_sent():
    torch.manual_seed(0)
    tokens, mask = torch.randint(1, 20, (6, 8)), torch.ones(6, 8, dtype=torch.int64)
    mask[1, 6:] = mask[3, 5:] = 0
    assert kinds(Attends(), tokens, mask) == set()


@pytest.mark.parametrize("atoms", [(5, 6, 7, 9), (4, 6, 7, 9), (3, 3, 3)])
def test_a_list_whose_entries_are_samples_of_any_size(atoms):
    class Molecules(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 2)

        def forward(self, molecules):
            return torch.stack([self.layer(atoms).relu().sum(0) for atoms in molecules])

    torch.manual_seed(0)
    assert kinds(Molecules(), [torch.randn(count, 5) for count in atoms]) == set()


def notes(model, inputs):
    return " ".join(audit(model, inputs).notes)


@pytest.mark.filterwarnings("ignore")
def test_notes_are_true_or_absent():
    torch.manual_seed(0)
    constant = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    nn.init.zeros_(constant[1].weight)
    assert "does not depend on the input" in notes(constant, rows(8))
    assert "does not depend" not in notes(nn.Linear(8, 2), rows(8))
    spectral = torch.nn.utils.spectral_norm(nn.Linear(64, 64))
    x = torch.randn(16, 64)
    assert "has not settled" in notes(spectral, x)
    for _ in range(50):
        spectral(x)
    assert "has not settled" not in notes(spectral, x)
    norm = nn.InstanceNorm2d(3, track_running_stats=True)
    for _ in range(200):
        norm(torch.randn(4, 3, 8, 8))
    assert "so few batches" not in notes(norm, torch.randn(4, 3, 8, 8))


@pytest.mark.parametrize("in_place", [False, True])
def test_modes_are_read_as_they_were_handed_over(in_place):
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 2)).eval()
    if in_place:
        model.lock = threading.Lock()  # cannot be copied
    model[1].train()
    assert ("mixed-modes", "1") in kinds(model, rows(8))


def test_ids_that_rounding_flips_are_no_difference():
    class Ids(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = nn.Embedding(200, 32), nn.LSTM(32, 64, batch_first=True)
            self.head = nn.Linear(64, 400)

        def forward(self, tokens):
            return self.head(self.rnn(self.embed(tokens))[0]).argmax(-1)

    for seed in range(2):
        torch.manual_seed(seed)
        tokens = torch.randint(0, 200, (6, 60))
        assert kinds(Ids().to(torch.bfloat16), tokens) == set()


@pytest.mark.filterwarnings("ignore")
def test_modules_under_torch_func():
    class Ensemble(nn.Module):
        def __init__(self):
            super().__init__()
            nets = [nn.Sequential(nn.Linear(8, 4), nn.Tanh()) for _ in range(3)]
            stacked, _ = torch.func.stack_module_state(nets)
            self.names = list(stacked)
            self.stacked = nn.ParameterList(value.detach() for value in stacked.values())
            self.base = [copy.deepcopy(nets[0]).to("meta")]

        def forward(self, x):
            def one(weights):
                return torch.func.functional_call(self.base[0], weights, (x,))

            return torch.func.vmap(one)(dict(zip(self.names, self.stacked))).mean(0)

    assert kinds(Ensemble(), rows(8)) == set()


class FlushesOnEval(nn.Module):
    """As the memory of a temporal graph network: entering eval mode moves it, a call does not."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 4)
        self.register_buffer("memory", torch.zeros(8, 4))

    def forward(self, rows):
        return self.memory[rows]

    def train(self, mode=True):
        if self.training and not mode:
            self.memory = self.cell(torch.ones(8, 4), self.memory).detach()
        return super().train(mode)


def test_what_entering_eval_mode_moves_is_not_said_to_move_at_a_call():
    kinds = [finding.kind for finding in audit(FlushesOnEval(), torch.arange(6)).findings]
    assert kinds == ["eval-not-followed"]


class RefusesChanges(OrderedDict):
    def update(self, *args, **kwargs):
        raise Exception("You cannot use ``update`` on a FrozenDict instance.")

    def clear(self):
        raise Exception("nor ``clear``")


def test_a_configuration_that_refuses_changes_is_left_alone():
    net = nn.Sequential(nn.Linear(4, 4))
    net.config = RefusesChanges()
    OrderedDict.__setitem__(net.config, "width", 4)
    assert not audit(net, torch.randn(4, 4)).findings and dict(net.config) == {"width": 4}


class Keypoints(nn.Module):
    """Scores that tie but for rounding decide an order; part of the answer is float32 for ever."""

    def __init__(self, copyable):
        super().__init__()
        column = torch.randn(512, 1)
        self.weight = nn.Parameter(column + 1e-7 * torch.randn(512, 400))
        self.register_buffer("places", torch.rand(400))
        if not copyable:
            self.names = {"a": 1}.keys()

    def forward(self, x):
        scores = x @ self.weight
        return self.places[scores.argsort(dim=-1, descending=True)], scores.float()


@pytest.mark.parametrize("copyable", [True, False])
def test_scores_that_tie_but_for_rounding_are_no_finding(copyable):
    torch.manual_seed(0)
    model, x = Keypoints(copyable), torch.randn(6, 512)
    before = model.weight.detach().clone()
    assert not audit(model, x).findings
    assert torch.equal(model.weight, before)


class Solves(nn.Module):
    """Answers that hang on the batch's size, by as much as rounding in a badly conditioned step."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, x):
        return x * (1 + self.share * len(x))


@pytest.mark.parametrize(("share", "found"), [(3e-14, False), (3e-6, True)])
def test_in_double_precision_a_difference_must_be_more_than_rounding(share, found):
    x = torch.randn(6, 4, dtype=torch.float64)
    kinds = {finding.kind for finding in audit(Solves(share), x).findings}
    assert ("depends-on-batch" in kinds) == found


# -- memory outside the model, and what is made of the weights -----------------------------------

calls_so_far = 0
running = {"mean": torch.zeros(8)}
generator = np.random.default_rng(0)


class Scaled:
    first: ClassVar = []


def over_the_first(x):
    Scaled.first.append(x.std())
    return x / Scaled.first[0]


def in_a_global(self, x):
    global calls_so_far
    calls_so_far += 1
    return x * calls_so_far


def in_a_global_dict(self, x):
    running["mean"] = torch.lerp(running["mean"], x.mean(0), 0.1)
    return x - running["mean"]


def in_a_class_that_a_function_knows(self, x):
    return over_the_first(x)


def in_its_class(self, x):
    before = getattr(type(self), "before", 0.0)
    type(self).before = x.mean()
    return x + before


def in_a_default_argument(self, x, seen=[]):  # noqa: B006
    seen.append(x.sum())
    return x * len(seen)


spaces = SimpleNamespace(calls=0)


def in_a_namespace(self, x):
    spaces.calls += 1
    return x * spaces.calls


def counted(x):
    counted.calls = getattr(counted, "calls", 0) + 1
    return x * counted.calls


def in_a_function_that_it_calls(self, x):
    return counted(x)


def in_a_closure():
    count = 0

    def forward(self, x):
        nonlocal count
        count += 1
        return x * count

    return forward


def class_with(forward):
    return type("Layer", (nn.Module,), {"forward": forward, "__module__": __name__})


@pytest.mark.parametrize(
    ("forward", "place"),
    [
        (in_a_global, "global calls_so_far"),
        (in_a_class_that_a_function_knows, "class attribute Scaled.first"),
        (in_its_class, "class attribute Layer.before"),
        (in_a_namespace, "global spaces"),
        (in_a_function_that_it_calls, "function attribute counted.calls"),
        (in_a_default_argument, "default argument"),
        (in_a_closure(), "closure variable count"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_memory_outside_the_model_is_named_and_put_back(forward, place):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), class_with(forward)())
    report = audit(model, rows(8))
    found = {f.module: f for f in report.findings if f.kind == "depends-on-history"}
    assert place in found["1"].evidence
    assert (calls_so_far, Scaled.first, hasattr(type(model[1]), "before")) == (0, [], False)
    assert spaces.calls == 0 and not hasattr(counted, "calls")
    again = audit(model, rows(8))
    assert [str(f) for f in again.findings] == [str(f) for f in report.findings]


class CountsCalls:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x * self.calls


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        (CountsCalls(), "depends-on-history"),
        (deque(), "depends-on-history"),
        (torch.Generator(), "random-in-eval"),
        (torch.zeros(8), "moves-in-eval"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_state_of_the_model_is_not_said_to_be_outside(held, kind):
    """Also where the code reads it by a name that a global could have."""

    def forward(self, x):
        if isinstance(self.held, torch.Generator):
            return x + torch.randn(x.shape, generator=self.held)
        if isinstance(self.held, torch.Tensor):
            self.held = torch.lerp(self.held, x.mean(0), 0.1)
            return x - self.held
        if isinstance(self.held, deque):
            self.held.append(1)
            return x * len(self.held)
        return self.held(x)

    model = class_with(forward)()
    model.held = held
    findings = audit(model, rows(8)).findings
    assert kind in {finding.kind for finding in findings}
    assert not any("outside" in f.evidence or "global" in f.evidence for f in findings)
    assert "random-in-eval" not in {f.kind for f in findings} or kind == "random-in-eval"


@pytest.mark.parametrize("drops", [False, True])
def test_a_model_that_takes_gradients_itself(drops):
    class Forces(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            x = x.detach().requires_grad_()
            energy = F.dropout(self.layer(x), training=drops).square().sum()
            return torch.autograd.grad(energy, x)[0]

    report = audit(Forces(), rows(8))
    assert [f.kind for f in report.findings] == ["random-in-eval"] * drops
    assert any("without gradients: the model fails" in note for note in report.notes)


def test_an_input_that_is_changed_in_place_is_noted():
    def centre(self, x):
        x -= x.mean(1, keepdim=True)
        return x * 1.0

    x = rows(8)
    before = x.clone()
    changes, leaves = (class_with(f)() for f in (centre, lambda self, x: x * 1.0))
    assert any("changes it in place" in note for note in audit(changes, x).notes)
    assert not audit(leaves, x).notes and torch.equal(x, before)


def replaceable(x):
    return x * 2.0


def test_a_function_that_a_call_replaces_by_a_number_is_put_back():
    def forward(self, x):
        global replaceable
        if callable(replaceable):
            x, replaceable = replaceable(x), 3.0
        return x

    before = replaceable
    audit(class_with(forward)(), rows(8))
    assert replaceable is before


def test_statistics_in_a_global_are_found_to_move():
    report = audit(class_with(in_a_global_dict)(), rows(8))
    assert ("moves-in-eval", "") in {(f.kind, f.module) for f in report.findings}
    assert not running["mean"].any()


def test_a_generator_among_the_globals_is_put_back():
    def noisy(self, x):
        return x + torch.from_numpy(generator.standard_normal(8)).float()

    before = generator.bit_generator.state
    report = audit(class_with(noisy)(), rows(8))
    assert [f.kind for f in report.findings] == ["random-in-eval"] and not report.notes
    assert generator.bit_generator.state == before


class Merges(nn.Module):
    """A product of weights, made once for eval mode; ``renewed`` says when it is made anew."""

    def __init__(self, renewed):
        super().__init__()
        self.renewed, self.made = renewed, None
        self.one, self.two = nn.Parameter(torch.rand(8, 4)), nn.Parameter(torch.rand(4, 8))

    def train(self, mode=True):
        super().train(mode)
        if self.renewed == "with the mode":
            self.made = None
        elif self.renewed == "at the first eval()" and not mode and self.made is None:
            self.made = (self.one @ self.two).detach()
        return self

    def forward(self, x):
        if self.training:
            return x @ (self.one @ self.two)
        if self.made is None:
            self.made = (self.one @ self.two).detach()
        return x @ self.made


def test_a_container_made_in_forward_hides_no_state():
    """As g-mlp-pytorch has it: what is put back is what was there first."""

    class Stacks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)])

        def forward(self, x):
            return nn.Sequential(*self.layers)(x)

    torch.manual_seed(0)
    assert kinds(Stacks(), rows(8)) == set()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("renewed", ["never", "at the first eval()", "with the mode"])
def test_weights_that_eval_mode_keeps(renewed, dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(), Merges(renewed)).to(dtype)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    found = kinds(model, rows(8).to(dtype))
    blamed = "" if dtype == torch.bfloat16 else "2"  # whose rounding is as large as the change
    assert found == (set() if renewed == "with the mode" else {("depends-on-history", blamed)})
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())
