"""Exported programs beside their originals: PyTorch's own exporters, right and wrong."""

import copy

import pytest
import torch
from torch import nn

from utils.audit import audit
from utils.evaluation import evaluate
from utils.export import compare
from utils.modes import evaluating, mode_of

BATCH = torch.export.Dim("batch")
X = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))

deprecated = pytest.mark.filterwarnings("ignore")  # TorchScript says so on every call


@pytest.fixture
def net(settled_mlp):
    return settled_mlp.eval()


def exported(model, x=X, **options):
    options = options or {"dynamic_shapes": ({0: BATCH},)}
    return torch.export.export(model, (x,), **options)


def kinds(report):
    return [found.kind for found in report.findings]


@deprecated
@pytest.mark.parametrize(
    "make",
    [
        exported,
        lambda net: torch.compile(net, backend="eager"),
        lambda net: torch.jit.trace(net, X),
        torch.jit.script,
        lambda net: torch.jit.freeze(torch.jit.script(net)),
        copy.deepcopy,
        lambda net: lambda x: net(x).numpy(),
    ],
    ids=["export", "compile", "trace", "script", "freeze", "copy", "numpy"],
)
def test_what_was_made_in_eval_mode_agrees(net, make):
    found = compare(net, make(net), X)
    assert found.findings == [] and found.sizes == [8, 4, 1] and found.apart < 1e-6


def test_the_originals_modes_are_as_they_were(net):
    program = exported(net)
    net.train()[4].eval()
    assert compare(net, program, X).findings == []
    assert mode_of(net) == "mixed" and net[2].training and not net[4].training


@deprecated
@pytest.mark.parametrize(
    "make",
    [exported, lambda net: torch.jit.trace(net, X, check_trace=False)],
    ids=["export", "trace"],
)
def test_what_was_made_in_train_mode_is_random_and_moves_the_original(net, make):
    program = make(net.train())
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    found = compare(net, program, X)
    assert {"random-once-exported", "moves-the-original"} <= set(kinds(found))
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    with pytest.raises(AssertionError, match="random-once-exported  at  a batch of 8"):
        found.raise_for_findings()


def test_batch_norm_in_train_mode_without_dropout_is_unlike_the_original(net):
    net[4].p = 0.0
    found = compare(net, exported(copy.deepcopy(net).train()), X)
    assert "unlike-the-original" in kinds(found) and "moves-the-original" not in kinds(found)


def test_a_size_that_was_written_down_is_found(net):
    found = compare(net, exported(net, strict=False), X)
    assert kinds(found) == ["fails-on-a-batch-size"]
    assert (
        found.findings[0].place == "a batch of 4" and "Guard failed" in found.findings[0].evidence
    )
    assert compare(net, exported(net, strict=False), X, sizes=[8]).findings == []


@pytest.mark.parametrize(
    ("calls", "found"),
    [(4, ["unlike-the-original", "remembers-calls"]), (6, ["remembers-calls"]), (7, [])],
)
def test_a_memory_of_calls_is_found(net, calls, found):
    """Two calls each of 8, 4 and 8 rows, then 8 rows once more: seven calls in all."""
    left = [calls]

    def remembers(x):
        left[0] -= 1
        return net(x) + (left[0] < 0)

    assert kinds(compare(net, remembers, X, sizes=[8, 4])) == found


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda out: out * 1.01, "apart by 0.01 of the largest value"),
        (lambda out: out.double(), "returns float64 (8, 10) where the original returns float32 (8, 10)"),
        (lambda out: out[:, :9], "returns float32 (8, 9)"),
    ],
)  # fmt: skip
def test_where_they_part_is_said(net, change, said):
    found = compare(net, lambda x: change(net(x)), X)
    assert kinds(found) == ["unlike-the-original"] and said in found.findings[0].evidence


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_rounding_is_no_difference_and_a_tolerance_is_ones_own(net, dtype):
    net, x = net.to(dtype), X.to(dtype)
    eps = torch.finfo(dtype).eps
    assert compare(net, lambda x: net(x) * (1 + 2 * eps), x).findings == []
    strict = compare(net, lambda x: net(x) * (1 + 2 * eps), x, tolerance=0)
    assert kinds(strict) == ["unlike-the-original"] and 0 < strict.apart < 8 * eps


def test_several_inputs_and_nested_outputs():
    class Two(nn.Module):
        def forward(self, a, b):
            return {"sum": a + b, "parts": [a, b.int()]}

    args = torch.randn(6, 3), torch.randn(6, 3)
    shapes = ({0: BATCH}, {0: BATCH})
    program = torch.export.export(Two().eval(), args, dynamic_shapes=shapes)
    assert compare(Two(), program, args).sizes == [6, 3, 1]
    assert compare(Two(), program, args).findings == []


@pytest.mark.parametrize(
    "size_of, off",
    [
        ([1.0, 1.0, 1.0, -1e9], 0.05),  # a masked score hides nothing
        ([1280.0, 1280.0, 1.0, 1.0], 0.06),  # boxes do not hide their confidences
    ],
)
def test_large_numbers_hide_no_small_ones(size_of, off):
    class Scaled(nn.Module):
        def forward(self, x):
            return x.sigmoid() * torch.tensor(size_of)

    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    assert compare(Scaled(), Scaled(), x).findings == []
    shift = torch.tensor([0.0, 0.0, off, 0.0])
    found = compare(Scaled(), lambda x: Scaled()(x) + shift, x)
    assert kinds(found) == ["unlike-the-original"]


def test_keys_keywords_and_empty_places_are_compared():
    class Named(nn.Module):
        def forward(self, x, *, scale):
            return {"a": x * scale, "b": x, "loss": None}

    x, scale = torch.randn(6, 3), torch.full((6, 1), 2.0)
    assert compare(Named(), Named(), x, {"scale": scale}).findings == []
    swap = lambda x, scale: {"a": x, "b": x * scale}  # noqa: E731
    assert kinds(compare(Named(), swap, x, {"scale": scale})) == ["unlike-the-original"]
    assert compare(Named(), lambda x, scale: (x * scale, x), x, {"scale": scale}).findings == []


def test_each_dtype_has_its_own_tolerance(net):
    class Both(nn.Module):
        def forward(self, x):
            return x, x.bfloat16()

    off = lambda x: (x * 1.02, x.bfloat16())  # noqa: E731
    assert kinds(compare(Both(), off, torch.randn(6, 3))) == ["unlike-the-original"]


def test_an_original_that_grows_or_counts_is_left_as_it_was():
    class Grows(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.zeros(1))
            self.register_buffer("mask", None)
            self.calls = []

        def forward(self, x):
            if len(self.table) < len(x):
                self.table = torch.arange(float(len(x)))
            self.mask = torch.ones(1)
            self.calls.append(1)
            return x + self.table[: len(x), None]

    model = Grows()
    assert compare(model, copy.deepcopy(model), torch.randn(6, 3)).findings == []
    assert model.table.tolist() == [0] and model.mask is None and model.calls == []


def test_answers_that_say_nothing_are_noted():
    empty = lambda x: x[:, :0]  # noqa: E731

    class Empty(nn.Module):
        def forward(self, x):
            return empty(x), x * torch.nan

    found = compare(Empty(), lambda x: (empty(x), x * torch.nan), torch.randn(4, 3))
    assert found.findings == [] and [note.split()[3] for note in found.notes] == ["empty", "nan"]


def test_inputs_that_ask_for_gradients_and_programs_that_fail_late(net):
    x = X.clone().requires_grad_()
    assert compare(net, lambda x: net(x).numpy(), x).findings == []
    left = [11]

    def fails_late(x):
        left[0] -= 1
        if left[0] == 0:
            raise ConnectionError("gone")
        return net(x)

    assert kinds(compare(net, fails_late, X)) == ["remembers-calls"]


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda net: compare(3, net, X), TypeError, "original is a int"),
        (lambda net: compare(net, 3, X), TypeError, "exported is a int; expected an ExportedProgram"),
        (lambda net: compare(net, net, 3), ValueError, r"inputs has tensors of length \[\]"),
        (lambda net: compare(net, net, (X, X[:3])), ValueError, r"length \[3, 8\]"),
        (lambda net: compare(net, net, X, sizes=[]), ValueError, r"sizes is \[\]"),
        (lambda net: compare(net, net, X, sizes=[9]), ValueError, "expected sizes from 1 to the 8"),
    ],
)  # fmt: skip
def test_bad_input_is_named(net, call, error, message):
    with pytest.raises(error, match=message):
        call(net)


def test_an_original_that_draws_cannot_be_compared_with():
    class Drops(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x)

    with pytest.raises(ValueError, match="two answers to one input in eval mode"):
        compare(Drops(), lambda x: x, X)


# What the other tools make of programs


@deprecated
def test_audit_says_what_it_can_and_cannot_see(net):
    made = {
        "exported": exported(net).module(),
        "trace": torch.jit.trace(net, X),
        "scripted": torch.jit.script(net),
        "compiled": torch.compile(net, backend="eager"),
    }
    for word, program in made.items():
        found = audit(program, X)
        assert found.findings == [] and any(word in note for note in found.notes), word
    with pytest.raises(ValueError, match="a frozen script, which has one mode for ever"):
        audit(torch.jit.freeze(torch.jit.script(net)), X)


@deprecated
def test_audit_of_a_program_from_train_mode_says_to_make_it_again(net):
    net.train()
    for verb, program in (
        ("export", exported(net).module()),
        ("trace", torch.jit.trace(net, X, check_trace=False)),
    ):
        found = {f.kind: f.cure for f in audit(program, X).findings}
        assert set(found) == {"random-in-eval", "moves-in-eval"}
        assert all(cure.startswith(f"{verb} the model again") for cure in found.values())


@deprecated
def test_programs_are_evaluated_as_they_are(net):
    y = torch.arange(8)
    expected = evaluate(net, [(X, y)], loss=nn.CrossEntropyLoss())
    frozen = torch.jit.freeze(torch.jit.script(net))
    for program in (exported(net).module(), frozen, torch.jit.trace(net, X)):
        assert evaluate(program, [(X, y)], loss=nn.CrossEntropyLoss()) == pytest.approx(expected)
    with evaluating(frozen) as same:
        assert same is frozen
