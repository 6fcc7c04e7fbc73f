"""The recorder around whole training programs, right ones and ones with a planted mistake."""

import copy
import gc
import linecache
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn
from torch.utils.checkpoint import checkpoint

from utils.data import digits_loaders
from utils.evaluation import evaluate
from utils.models import digits_mlp
from utils.modes import keep_in_eval
from utils.recorder import record
from utils.training import fit


def calls(model):
    """What each class in the model says of `__call__` itself."""
    return [vars(cls).get("__call__") for part in model.modules() for cls in type(part).__mro__]


loss_of = nn.CrossEntropyLoss()


def net(dropout=0.3):
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 4)
    )


def batches(count=6, size=8):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 8, generator=generator), torch.arange(size) % 4) for _ in range(count)
    ]


def train(model, optimizer, data):
    for x, y in data:
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()


def look(model, data):
    return [model(x).argmax(1) for x, _ in data]


class Program:
    """A model, an optimiser and data, for a program to use."""

    def __init__(self, model=None):
        torch.manual_seed(0)
        self.model = model or net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        self.data = batches()


def plain(p):
    for _ in range(3):
        p.model.train()
        train(p.model, p.optimizer, p.data)
        p.model.eval()
        with torch.inference_mode():
            look(p.model, p.data)


def frozen_kept(p):
    keep_in_eval(p.model[1])
    plain(p)


def frozen_by_hand_each_epoch(p):
    for _ in range(3):
        p.model.train()
        p.model[1].eval()
        train(p.model, p.optimizer, p.data)
        p.model.eval()
        with torch.no_grad():
            look(p.model, p.data)


def saliency(p):
    p.model.eval()
    for x, _ in p.data:
        x = x.clone().requires_grad_()
        p.model(x).amax(1).sum().backward()


def adversarial_training(p):
    for x, y in p.data:
        p.model.eval()
        moved = x.clone().requires_grad_()
        loss_of(p.model(moved), y).backward()
        p.model.train()
        p.optimizer.zero_grad()
        loss_of(p.model(x + 0.1 * moved.grad.sign()), y).backward()
        p.optimizer.step()


def averaged_weights(p):
    plain(p)
    p.model.train()
    update_bn(p.data, p.model)


def monte_carlo(p):
    p.model.eval()
    p.model[3].train()
    with torch.no_grad():
        for _ in range(5):
            look(p.model, p.data)


def accumulation(p):
    p.model.train()
    for index, (x, y) in enumerate(p.data):
        (loss_of(p.model(x), y) / 3).backward()
        if index % 3 == 2:
            p.optimizer.step()
            p.optimizer.zero_grad()


def one_backward_for_many(p):
    p.model.train()
    sum(loss_of(p.model(x), y) for x, y in p.data).backward()
    p.optimizer.step()


def lbfgs(p):
    optimizer = torch.optim.LBFGS(p.model.parameters(), max_iter=3)
    x, y = p.data[0]

    def closure():
        optimizer.zero_grad()
        loss = loss_of(p.model(x), y)
        loss.backward()
        return loss

    p.model.train()
    for _ in range(3):
        optimizer.step(closure)


def steps_by_hand(p):
    p.model.train()
    for x, y in p.data:
        gradients = torch.autograd.grad(loss_of(p.model(x), y), list(p.model.parameters()))
        with torch.no_grad():
            for weight, gradient in zip(p.model.parameters(), gradients):
                weight -= 0.1 * gradient


def teacher_beside(p):
    teacher = copy.deepcopy(p.model)
    p.model.train()
    for x, _ in p.data:
        with torch.no_grad():
            aim = teacher(x)
        p.optimizer.zero_grad()
        F.mse_loss(p.model(x), aim).backward()
        p.optimizer.step()


def nothing_listens(p):
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with record(model) as recording:
        train(model, optimizer, p.data)
        with torch.no_grad():
            look(model, p.data)
    assert recording.findings == []


def unfrozen_later(p):
    for layer in (p.model[0], p.model[1]):
        layer.requires_grad_(False)
    p.model.train()
    p.model[1].eval()
    train(p.model, p.optimizer, p.data)
    p.model.requires_grad_(True)
    p.model.train()
    train(p.model, p.optimizer, p.data)


def with_fit(p):
    fit(p.model, p.data, p.data, loss=loss_of, optimizer=p.optimizer, epochs=3)
    evaluate(p.model, p.data, loss=loss_of)


RIGHT = [
    plain, frozen_kept, frozen_by_hand_each_epoch, saliency, adversarial_training,
    averaged_weights, monte_carlo, accumulation, one_backward_for_many, lbfgs, steps_by_hand,
    teacher_beside, nothing_listens, unfrozen_later, with_fit,
]  # fmt: skip


def state(p):
    return [t.clone() for t in p.model.state_dict().values()]


class Checkpointed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.body, self.head, self.reentrant = net(), nn.Linear(4, 4), reentrant

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=self.reentrant))


class Gan(nn.Module):
    def __init__(self):
        super().__init__()
        self.make = net()
        self.judge = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 1))


def forgot_eval(p):
    for _ in range(2):
        train(p.model, p.optimizer, p.data)
        with torch.no_grad():
            look(p.model, p.data)
    return {"evaluated-in-train-mode": "look"}


def one_line_for_both(p):
    def run(optimizer=None):
        for x, y in p.data:
            loss = loss_of(p.model(x), y)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    for _ in range(2):
        run(p.optimizer)
        run()
    return {"evaluated-in-train-mode": "run", "graph-never-used": "run"}


def forgot_train(p):
    for _ in range(2):
        train(p.model, p.optimizer, p.data)
        p.model.eval()
        with torch.no_grad():
            look(p.model, p.data)
    return {"trained-in-eval-mode": "train"}


def loaded_in_eval(p):
    p.model.eval()
    train(p.model, p.optimizer, p.data)
    return {"trained-in-eval-mode": "train"}


def forgot_no_grad(p):
    for _ in range(2):
        p.model.train()
        train(p.model, p.optimizer, p.data)
        p.model.eval()
        look(p.model, p.data)
    return {"graph-never-used": "look"}


def thawed(p):
    p.model[1].eval()
    for _ in range(2):
        train(p.model, p.optimizer, p.data)
        p.model.eval()
        with torch.no_grad():
            look(p.model, p.data)
        p.model.train()
    return {"thawed": "train"}


def parts_called_alone(p):
    for x, y in p.data:
        p.optimizer.zero_grad()
        loss_of(p.model[3:](p.model[:3](x)), y).backward()
        p.optimizer.step()
    with torch.no_grad():
        for layer in p.model:
            x = layer(x)
    return {"evaluated-in-train-mode": "parts_called_alone"}


WRONG = [
    forgot_eval, one_line_for_both, forgot_train, loaded_in_eval, forgot_no_grad, thawed,
    parts_called_alone,
]  # fmt: skip


def _bytes(evidence):
    number, unit = evidence.split("held ")[1].split()[:2]
    return float(number) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit]


class Taught(nn.Module):
    def __init__(self):
        super().__init__()
        self.student = net()
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)


X, Y = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 4


def seen(program, model):
    with record(model) as recording:
        program()
    return {finding.kind for finding in recording.findings}


def step(model, optimizer, x=X):
    optimizer.zero_grad()
    loss_of(model(x), Y).backward()
    optimizer.step()


def sgd(*models):
    return torch.optim.SGD([p for model in models for p in model.parameters()], 0.1)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = net()

    def forward(self, x):
        return 2 * self.body(x)


class OwnNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(8))

    def forward(self, x):
        if self.training:
            self.running_mean.lerp_(x.mean(0), 0.1)
            return x - x.mean(0)
        return x - self.running_mean


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = net(), net()


class Derivative(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(8, 4), nn.Tanh())

    def forward(self, x):
        return torch.func.vmap(torch.func.grad(lambda row: self.inner(row).sum()))(x)


def with_container():
    model = nn.Sequential(nn.Linear(8, 4))
    model.block = nn.Module()
    model.block.norm = nn.BatchNorm1d(4)
    return model


class Static(nn.Module):
    __call__ = staticmethod(lambda x: 2 * x)


def under_inference_mode():
    with torch.inference_mode():
        return nn.Linear(8, 4)


# -- whole programs ------------------------------------------------------------------------------


@pytest.mark.parametrize("program", RIGHT)
def test_right_program_is_left_alone_and_unchanged(program):
    alone = Program()
    program(alone)
    rng = torch.get_rng_state()
    watched = Program()
    before = calls(watched.model)
    with record(watched.model) as recording:
        program(watched)
    assert recording.findings == [], recording
    assert all(torch.equal(a, b) for a, b in zip(state(watched), state(alone), strict=True))
    assert torch.equal(torch.get_rng_state(), rng)
    assert calls(watched.model) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in watched.model.modules())


@pytest.mark.parametrize("program", WRONG)
def test_planted_mistake_is_found_at_its_line(program):
    p = Program()
    with record(p.model) as recording:
        expected = program(p)
    assert {f.kind: f.where.function for f in recording.findings} == expected, recording
    for finding in recording.findings:
        assert finding.where.file == __file__
        line = linecache.getline(__file__, finding.where.line)
        assert "model" in line or "layer(x)" in line
        assert finding.evidence and finding.cure
        assert finding.kind in str(recording) and finding.kind in recording._repr_html_()
    with pytest.raises(AssertionError, match="finding"):
        recording.raise_for_findings()


def test_on_the_digits():
    data = digits_loaders(batch_size=64)
    model = digits_mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with record(model) as recording:
        fit(model, data.train, data.validation, loss=loss_of, optimizer=optimizer, epochs=2)
    assert recording.findings == []
    assert [(q.mode, q.use) for q in recording.phases] == [("train", "step"), ("eval", "none")]


def test_a_long_program_is_a_few_lines():
    p = Program()
    x, y = p.data[0]
    with record(p.model) as recording:
        for _ in range(1500):
            p.model.train()
            train(p.model, p.optimizer, [(x, y)])
            p.model.eval()
            with torch.inference_mode():
                p.model(x)
    assert [(q.forwards, q.mode, q.use) for q in recording.phases] == [
        (1500, "train", "step"), (1500, "eval", "none"),
    ]  # fmt: skip
    assert recording.forwards == 3000 and recording.steps == 1500


def test_evidence_measures_statistics_and_memory():
    p = Program(net(dropout=0.5))
    weights = [w.clone() for w in p.model.parameters()]
    before = p.model[1].running_mean.clone()
    with record(p.model) as recording:
        look(p.model, p.data)
    mode, graph = recording.findings
    layer = p.model[1]
    moved = ((layer.running_mean - before).abs() / (layer.running_var + layer.eps).sqrt()).max()
    assert f"by {float(moved):.2g} standard deviations" in mode.evidence
    assert "2 of 2 layers" in mode.evidence
    # Kept for the backward pass: input, normalised input's source, ReLU's output, mask, mean
    # and inverse deviation, the last layer's input.
    floats = 8 * 8 + 8 * 16 + 8 * 16 + 8 * 16 + 16 + 16
    assert int(graph.evidence.split("held ")[1].split()[0].split(".")[0]) > 0
    assert 0.5 * 4 * floats < _bytes(graph.evidence) < 2 * 4 * floats
    assert all(torch.equal(a, b) for a, b in zip(weights, p.model.parameters(), strict=True))


def test_recordings_of_two_models_do_not_mix():
    one, other = Program(), Program()
    with record(one.model) as first, record(other.model) as second:
        plain(one)
        forgot_train(other)
    assert first.findings == []
    assert [f.kind for f in second.findings] == ["trained-in-eval-mode"]


def test_a_wrong_argument_is_named():
    with pytest.raises(TypeError, match="model is a str"), record("net"):
        pass


# -- principle 1: what was consumed is no evaluation ---------------------------------------------


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("outside", [True, False])
def test_a_checkpoint_that_runs_again_is_no_evaluation(reentrant, outside):
    p = Program(Checkpointed(reentrant))
    with record(p.model) as recording:
        for x, y in p.data:
            x.requires_grad_()
            p.optimizer.zero_grad()
            if outside:
                out = p.model.head(checkpoint(p.model.body, x, use_reentrant=reentrant))
            else:
                out = p.model(x)
            loss_of(out, y).backward()
            p.optimizer.step()
    assert recording.findings == [], recording


@pytest.mark.parametrize("variant", ["reuse", "no_grad"])
@pytest.mark.parametrize("part", [None, "make", "judge"])
def test_a_gan(variant, part):
    torch.manual_seed(0)
    gan = Gan()
    of_make = torch.optim.SGD(gan.make.parameters(), 0.1)
    of_judge = torch.optim.SGD(gan.judge.parameters(), 0.1)
    with record(getattr(gan, part) if part else gan) as recording:
        for z, _ in batches():
            if variant == "reuse":
                fake = gan.make(z)
            else:
                with torch.no_grad():
                    fake = gan.make(z)
            of_judge.zero_grad()
            (gan.judge(torch.randn(8, 4)) - gan.judge(fake.detach())).mean().backward()
            of_judge.step()
            of_make.zero_grad()
            gan.judge(fake if variant == "reuse" else gan.make(z)).mean().backward()
            of_make.step()
    assert recording.findings == [], recording
    assert len(recording.phases) <= 8


def test_fakes_that_were_changed_on_their_way_to_the_judge():
    torch.manual_seed(0)
    gan = Gan()
    of_judge = torch.optim.SGD(gan.judge.parameters(), 0.1)
    of_make = torch.optim.SGD(gan.make.parameters(), 0.1)
    with record(gan) as recording:
        for z, _ in batches():
            with torch.no_grad():
                fake = torch.tanh(gan.make(z))
            of_judge.zero_grad()
            gan.judge(torch.cat([torch.randn(8, 4), fake])).mean().backward()
            of_judge.step()
            of_make.zero_grad()
            gan.judge(torch.tanh(gan.make(z))).mean().backward()
            of_make.step()
    assert recording.findings == [], recording


@pytest.mark.parametrize("frozen", [False, True])
def test_the_cure_for_mixed_modes_thaws_nothing(frozen):
    model = net().train()
    model[1].train(not frozen)
    with record(model) as recording:
        for x, y in batches():
            loss_of(model(x), y)
    cure = next(f.cure for f in recording.findings if f.kind == "evaluated-in-train-mode")
    assert ("or model.eval() before and model.train() after" in cure) == (not frozen)
    assert "evaluating(model)" in cure


@pytest.mark.parametrize("around", [nn.Sequential, nn.ModuleList])
def test_fakes_for_a_network_of_other_classes(around):
    class Judge(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = around([]) if around is nn.ModuleList else around(nn.Flatten())
            self.parts.append(nn.Conv1d(1, 1, 8))

        def forward(self, x):
            return [part(x[:, None]) for part in self.parts][-1]

    generator = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh())
    judge = Judge()
    optimizer = torch.optim.SGD(judge.parameters(), lr=0.1)
    with record(generator) as recording:
        for _ in range(4):
            fakes = generator(torch.randn(16, 4)).detach()
            judge(fakes).mean().backward()
            optimizer.step()
    assert "evaluated-in-train-mode" not in [f.kind for f in recording.findings]


def test_a_gradient_taken_in_eval_mode_is_no_training():
    model = net()
    optimizer = sgd(model)

    def program():
        for _ in range(2):
            model.train()
            for _ in range(5):
                step(model, optimizer)
            model.eval()
            torch.autograd.grad(loss_of(model(X), Y), list(model.parameters()))

    assert not seen(program, model)


def test_an_attack_whose_line_calls_twice():
    model = net()
    optimizer = sgd(model)

    def program():
        for _ in range(5):
            model.eval()
            x = X.clone().requires_grad_()
            apart = F.mse_loss(model(x + 0.1), model(X))
            direction = torch.autograd.grad(apart, x)[0].sign()
            model.train()
            step(model, optimizer, X + 0.1 * direction)

    assert not seen(program, model)


def test_an_attack_in_eval_mode_before_each_step_thaws_nothing():
    model = net()
    optimizer = sgd(model)

    def program():
        for _ in range(5):
            model[1].eval()
            x = X.clone().requires_grad_()
            direction = torch.autograd.grad(loss_of(model(x), Y), x)[0].sign()
            model[1].train()
            step(model, optimizer, X + 0.1 * direction)

    assert not seen(program, model)


def test_an_optimiser_of_an_attack_in_the_place_of_a_freed_one():
    model = net()

    def train_again():
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, optimizer, batches(3))

    def attack():
        noise = torch.zeros_like(X, requires_grad=True)
        optimizer = torch.optim.SGD([noise], lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (-F.cross_entropy(model(X + noise), Y)).backward()
            optimizer.step()

    with record(model) as recording:
        for _ in range(5):
            model.train()
            train_again()
            train_again()
            model.eval()
            attack()
    assert recording.steps == 30 and recording.findings == []


class Denoising(nn.Module):
    def __init__(self):
        super().__init__()
        self.corrupt, self.net = nn.Dropout(0.2), net()

    def plain(self, x):
        return self.net(self.corrupt(x))

    def scaled(self, x):
        return self.net(self.corrupt(x) * 0.8)

    def masked(self, x):
        return self.net(x * self.corrupt(torch.ones_like(x)))


@pytest.mark.parametrize("entry", ["plain", "scaled", "masked"])
def test_a_layer_without_weights_before_the_network_is_no_evaluation(entry):
    model = Denoising()
    optimizer, enter = sgd(model), getattr(model, entry)

    def program():
        for _ in range(3):
            model.train()
            for x, y in batches():
                optimizer.zero_grad()
                loss_of(enter(x), y).backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                look(enter, batches())

    assert not seen(program, model)


# -- principle 2: a part's history decides -------------------------------------------------------


@pytest.mark.parametrize("follows", [True, False])
def test_a_teacher_that_follows_the_student_and_one_that_was_forgotten(follows):
    torch.manual_seed(0)
    model = Taught()
    optimizer = torch.optim.SGD(model.student.parameters(), 0.1)
    with record(model) as recording:
        for x, _ in batches():
            with torch.no_grad():
                aims = [model.teacher(part) for part in x.split(4)]
            optimizer.zero_grad()
            F.mse_loss(model.student(x), torch.cat(aims)).backward()
            optimizer.step()
            if follows:
                for aim, weight in zip(
                    model.teacher.parameters(), model.student.parameters(), strict=True
                ):
                    aim.lerp_(weight.detach(), 0.1)
    kinds = [finding.kind for finding in recording.findings]
    assert kinds == ([] if follows else ["evaluated-in-train-mode"])


def test_an_average_that_is_evaluated_in_train_mode():
    model = Pair()
    model.other.requires_grad_(False)
    optimizer = sgd(model.one)

    def program():
        for _ in range(3):
            for _ in range(5):
                step(model.one, optimizer)
                with torch.no_grad():
                    for p, q in zip(model.other.parameters(), model.one.parameters(), strict=True):
                        p.lerp_(q, 0.1)
            with torch.no_grad():
                look(model.other, batches(4))

    assert seen(program, model) == {"evaluated-in-train-mode"}


def test_a_teacher_beside_its_student_is_thawed():
    model = Pair()
    optimizer = sgd(model.one)

    def program():
        for _ in range(3):
            model.train()
            for _ in range(5):
                with torch.no_grad():
                    target = model.other(X)
                optimizer.zero_grad()
                F.mse_loss(model.one(X), target).backward()
                optimizer.step()

    assert "evaluated-in-train-mode" in seen(program, model)


def test_a_linear_probe_on_a_frozen_network_in_eval_mode():
    model = nn.Sequential(net().requires_grad_(False), nn.Linear(4, 4)).eval()
    optimizer = sgd(model[1])
    assert not seen(lambda: [step(model, optimizer) for _ in range(5)], model)


@pytest.mark.parametrize("alone", [False, True])
def test_a_frozen_encoder_in_train_mode_is_found_though_it_feeds_a_head(alone):
    model = nn.ModuleDict({"encoder": net(), "head": nn.Linear(4, 4)})
    model["encoder"].requires_grad_(False)
    optimizer = sgd(model["head"])

    def program():
        for x, y in batches():
            with torch.no_grad():
                features = model["encoder"](x)
            optimizer.zero_grad()
            loss_of(model["head"](features), y).backward()
            optimizer.step()

    watched = model["encoder"] if alone else model
    assert "evaluated-in-train-mode" in seen(program, watched)


@pytest.mark.parametrize("whole", [True, False])
def test_a_part_that_was_frozen_once_is_thawed_by_the_first_train(whole):
    model = nn.Sequential(net(), nn.Linear(4, 4))
    model[0].requires_grad_(False)
    (model[0] if whole else model[0][1]).eval()
    optimizer = sgd(model[1])

    def program():
        model.train()
        train(model, optimizer, batches())

    assert seen(program, model) == {"thawed"}


@pytest.mark.parametrize("keeps", [False, True])
def test_a_frozen_part_whose_statistics_move(keeps):
    model = nn.Sequential(net(), nn.Linear(4, 4))
    model[0].requires_grad_(False)
    if keeps:
        keep_in_eval(model[0])
    optimizer = sgd(model[1])
    expected = set() if keeps else {"frozen-part-in-train-mode"}
    assert seen(lambda: train(model, optimizer, batches()), model) == expected


def test_a_frozen_teacher_inside_the_forward_is_noted():
    class Distilled(nn.Module):
        def __init__(self):
            super().__init__()
            self.student, self.teacher = net(), nn.Sequential(nn.Linear(8, 4), nn.Dropout())
            self.teacher.requires_grad_(False)

        def forward(self, x):
            return self.student(x) - self.teacher(x)

    model = Distilled()
    with record(model) as recording:
        train(model, sgd(model.student), batches())
    assert recording.findings == []
    assert any("'teacher', which has frozen weights" in note for note in recording.notes)


# -- principle 3: what was set inside a model in eval mode is on purpose -------------------------


def test_a_wrapper_in_eval_mode_around_a_network_in_train_mode():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            return self.net(x)

    model = Wrapper()
    optimizer = sgd(model)

    def program():
        for _ in range(5):
            step(model, optimizer)
        model.eval()
        model.net.train()
        with torch.no_grad():
            look(model, batches(2))

    assert seen(program, model) == {"evaluated-in-train-mode"}


@pytest.mark.parametrize("trained", [True, False])
def test_a_plain_average_in_an_ordinary_model(trained):
    model = net()
    model[1].momentum = None
    optimizer = sgd(model)

    def program():
        if trained:
            for _ in range(5):
                step(model, optimizer)
        with torch.no_grad():
            look(model, batches(2))

    assert seen(program, model) == ({"evaluated-in-train-mode"} if trained else set())


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_that_was_loaded_in_eval_mode(wrapped):
    model = net().eval()
    outer = nn.Sequential(model) if wrapped else model
    optimizer = sgd(outer)
    assert seen(lambda: [step(outer, optimizer) for _ in range(5)], outer) == {
        "trained-in-eval-mode"
    }


# -- principle 4: an evaluation is a run ---------------------------------------------------------


def test_two_batches_that_training_skips_are_no_evaluation():
    p = Program()
    with record(p.model) as recording:
        for epoch in range(3):
            for index, (x, y) in enumerate(p.data):
                loss = loss_of(p.model(x), y)
                if epoch == 1 and index in (2, 3):
                    continue
                p.optimizer.zero_grad()
                loss.backward()
                p.optimizer.step()
    assert recording.findings == [], recording


@pytest.mark.parametrize("pattern", ["epochs", "in turn"])
def test_training_and_evaluation_at_one_line(pattern):
    model = net()
    optimizer = sgd(model)

    def run(count, train):
        for _ in range(count):
            loss = loss_of(model(X), Y)
            if train:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def program():
        for _ in range(3 if pattern == "epochs" else 30):
            run(18 if pattern == "epochs" else 1, True)
            run(4 if pattern == "epochs" else 1, False)

    assert seen(program, model) == {"evaluated-in-train-mode", "graph-never-used"}


@pytest.mark.parametrize("gradients", [True, False])
def test_an_evaluation_after_many_steps_at_one_line(gradients):
    """After many regular steps a forward is taken to have one; the first that has none ends it."""
    p = Program()
    p.data = batches(40)

    def go_through(data, step):
        for x, y in data:
            loss = loss_of(p.model(x), y)
            if step:
                p.optimizer.zero_grad()
                loss.backward()
                p.optimizer.step()

    with record(p.model) as recording:
        go_through(p.data, step=True)
        with torch.set_grad_enabled(gradients):
            go_through(p.data[:10], step=False)
    used = {}
    for phase in recording.phases:
        used[phase.use] = used.get(phase.use, 0) + phase.forwards
    assert used == {"none": 10, "step": 40}
    assert recording.findings[0].kind == "evaluated-in-train-mode"


def test_evaluation_under_a_checkpoint():
    model = net()
    optimizer = sgd(model)

    def program():
        for _ in range(5):
            optimizer.zero_grad()
            loss_of(checkpoint(model, X, use_reentrant=False), Y).backward()
            optimizer.step()
        with torch.no_grad():
            for _ in range(5):
                checkpoint(model, X, use_reentrant=False)

    assert seen(program, model) == {"evaluated-in-train-mode"}


# -- steps, by optimisers and by hand ------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_second_half_of_a_model(mode):
    encoder, model = nn.Linear(8, 8), net().train(mode == "train")
    optimizer = sgd(encoder, model)

    def program():
        for number in range(10):
            loss_of(model(encoder(X)), Y).backward()
            if number % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()

    expected = {"trained-in-eval-mode"} if mode == "eval" else set()
    assert seen(program, model) == expected


def test_weights_that_are_changed_by_way_of_data():
    model = net().eval()

    def program():
        for _ in range(5):
            model.zero_grad()
            loss_of(model(X), Y).backward()
            for parameter in model.parameters():
                parameter.data -= 0.1 * parameter.grad

    assert seen(program, model) == {"trained-in-eval-mode"}


def test_weights_that_are_replaced_meanwhile():
    model = net()
    with record(model) as recording:
        model.load_state_dict(net().state_dict(), assign=True)
        model.eval()
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), batches(3))
    assert recording.steps == 3
    assert [finding.kind for finding in recording.findings] == ["trained-in-eval-mode"]


def test_micro_batches_in_eval_mode_are_part_of_a_step():
    model = net()
    optimizer = sgd(model)

    def program():
        for index, (x, y) in enumerate(batches(8)):
            if index % 4 == 0:
                model.train()
            loss_of(model(x), y).backward()
            if index % 4 == 0:
                model.eval()
                with torch.no_grad():
                    model(x)
            if index % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()

    assert "trained-in-eval-mode" in seen(program, model)


# -- a model runs as without ---------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("transform", ["grad", "jacrev", "jvp", "no hooks"])
def test_transforms_of_functions_work_as_without(transform):
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4)).eval()
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def run():
        if transform == "grad":
            call = torch.func.functional_call
            return torch.func.grad(lambda w: call(model, w, (X,)).sum())(weights)["0.weight"]
        if transform == "jacrev":
            return torch.func.jacrev(model)(X[0])
        if transform == "jvp":
            return torch.func.jvp(model, (X,), (X,))[1]
        with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
            return model(X)

    expected = run()
    with record(model):
        assert torch.equal(run(), expected)


def test_a_compiled_model_is_compiled_as_without():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    model = net()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    with record(model) as recording, torch.no_grad():
        look(compiled, [(X, Y), (X, Y)])
    assert len(graphs) == 1 and recording.forwards == 2
    assert [finding.kind for finding in recording.findings] == ["evaluated-in-train-mode"]


@pytest.mark.parametrize("make", [net, Scaled])
def test_a_model_compiled_in_place_is_compiled_as_without(make):
    graphs = {}
    for watched in (False, True):
        torch.compiler.reset()
        codes = graphs[watched] = []
        model = make().eval()
        model.compile(backend=lambda graph, inputs, codes=codes: codes.append(graph.code) or graph)
        with record(model if watched else nn.Linear(1, 1)) as recording, torch.no_grad():
            look(model, [(X, Y), (X, Y)])
        assert recording.forwards == 2 * watched
    assert graphs[True] == graphs[False]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_the_inference_path_of_attention_is_kept():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    x, hidden = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.inference_mode():
        alone = model(x, src_key_padding_mask=hidden)
        with record(model):
            watched = model(x, src_key_padding_mask=hidden)
    assert torch.equal(alone, watched)


@pytest.mark.parametrize(
    "make",
    [
        Derivative,
        Static,
        under_inference_mode,
        lambda: nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d()),
    ],
    ids=["torch.func inside", "static", "inference", "lazy norm"],
)
def test_a_model_runs_as_without(make):
    def answer():
        torch.manual_seed(0)
        return make()

    expected = answer()(X)
    model = answer()
    with record(model):
        assert torch.equal(model(X), expected)


def test_saved_tensors_hooks_around_a_model_stay_its_own():
    def program(model):
        torch.manual_seed(0)
        packed = []
        for _ in range(3):
            with torch.autograd.graph.saved_tensors_hooks(
                lambda t: packed.append(t.shape) or t.bfloat16(), lambda t: t.float()
            ):
                loss = model(X).pow(2).sum()
            loss.backward()
            checkpoint(model, X, use_reentrant=False).sum().backward()
        return packed, [p.grad for p in model.parameters()], model[1].num_batches_tracked

    torch.manual_seed(0)
    model = net(dropout=0.0)
    other = copy.deepcopy(model)
    packed, gradients, count = program(model)
    with record(other):
        packed_too, gradients_too, count_too = program(other)
    assert packed == packed_too and torch.equal(count, count_too)
    assert all(torch.equal(a, b) for a, b in zip(gradients, gradients_too, strict=True))


def test_outputs_are_not_kept_alive():
    p = Program()
    with record(p.model.eval()):
        out = p.model(p.data[0][0])
        seen = weakref.ref(out)
        del out
        gc.collect()
        assert seen() is None


def test_an_output_can_be_saved(tmp_path, recwarn):
    model = net()
    with record(model):
        torch.save(model(X), tmp_path / "output.pt")
    assert not recwarn.list


def test_a_parameter_among_the_outputs():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.scale = net(), nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.net(x), self.scale

    model = Scaled().eval()
    with record(model) as recording:
        for _ in range(3):
            with torch.no_grad():
                model(X)
        assert not model.scale._backward_hooks
    assert recording.findings == []


@pytest.mark.parametrize("layer", [nn.LazyLinear(4), nn.Linear(8, 4, dtype=torch.complex64)])
def test_weights_of_unusual_kinds(layer):
    model = nn.Sequential(layer, nn.Dropout()).eval()
    x = X.to(getattr(layer.bias, "dtype", X.dtype))
    with record(model) as recording:
        model(x)
    assert recording.forwards == 1


@pytest.mark.parametrize("around", ["meta", "vmap", "fake"])
def test_tensors_without_numbers(around):
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
    if around == "meta":
        model.to("meta")
    with record(model) as recording:
        if around == "meta":
            model(X.to("meta"))
        elif around == "vmap":
            copies = [copy.deepcopy(model) for _ in range(2)]
            state = torch.func.stack_module_state(copies)
            torch.func.vmap(lambda p, b: torch.func.functional_call(model, (p, b), (X,)))(*state)
        else:
            model(X).sum().backward()
            with FakeTensorMode(allow_non_fake_inputs=True) as mode:
                model(mode.from_tensor(X))
    assert recording.forwards >= 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_norms_of_other_kinds_are_measured_or_left():
    model = nn.Sequential(OwnNorm(), nn.Linear(8, 4))
    assert "evaluated-in-train-mode" in seen(lambda: look(model, batches()), model)
    model = net()
    with record(model):
        model(X)
        model[1].running_mean = model[1].running_var = None
        model.eval()(X)
    with pytest.raises(KeyboardInterrupt), record(net()) as recording:
        moved = net()
        with record(moved):
            moved(X)
            moved.to("meta")
            raise KeyboardInterrupt
    assert recording.findings == []
    scripted = torch.jit.script(net())
    with record(scripted) as recording:
        scripted(X)
    assert recording.forwards == 1


# -- standing in for calls -----------------------------------------------------------------------


def test_an_error_passes_and_leaves_no_hook_behind():
    p = Program()
    before = calls(p.model)
    with pytest.raises(RuntimeError, match="shapes"), record(p.model) as recording:
        look(p.model, p.data)
        p.model(torch.ones(3, 3))
    assert calls(p.model) == before
    assert [f.kind for f in recording.findings] == ["evaluated-in-train-mode", "graph-never-used"]


def test_what_others_have_put_in_place_of_a_call_stays(monkeypatch):
    original, counted = nn.Module.__call__, []

    def count(self, *args, **kwargs):
        counted.append(type(self))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "__call__", count)
    layer = nn.Linear(8, 4)
    with record(layer):
        layer(X)
    assert counted == [nn.Linear] and nn.Module.__call__ is count


def test_what_others_put_in_place_of_a_call_meanwhile_stays(monkeypatch):
    original = nn.Linear.__call__
    model = net()
    with record(model) as recording:
        monkeypatch.setattr(nn.Linear, "__call__", lambda self, x: original(self, x), raising=False)
        model(X)
    assert recording.forwards == 1
    assert vars(nn.Linear)["__call__"] is not original


def test_a_base_class_whose_call_is_replaced_meanwhile(monkeypatch):
    class Base(nn.Linear):
        pass

    class Derived(Base):
        pass

    model = Derived(8, 4)
    with record(model):
        monkeypatch.setattr(Base, "__call__", lambda self, x: "replaced", raising=False)
        assert model(X) == "replaced"


def test_classes_with_a_call_of_their_own():
    class Doubling(nn.Linear):
        def __call__(self, x):
            return 2 * super().__call__(x)

    class Again(Doubling):
        pass

    model = nn.Sequential(Again(8, 4), nn.Linear(4, 2), nn.Dropout()).eval()
    before, expected = calls(model), model(X)
    with record(model) as recording:
        assert torch.equal(model(X), expected)
        assert torch.equal(model[0](X), 2 * F.linear(X, model[0].weight, model[0].bias))
    assert recording.forwards == 2 and calls(model) == before


def test_a_wrapper_that_is_not_watched_is_passed_over():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x)

    model = net()
    wrapper = Wrapper(model)
    optimizer = sgd(wrapper)
    with record(model) as recording:
        step(wrapper, optimizer)
        with torch.no_grad():
            wrapper(X)
    (finding,) = recording.findings
    assert linecache.getline(finding.where.file, finding.where.line).strip() == "wrapper(X)"


def test_a_container_without_a_forward_leaves_nothing_behind():
    model = with_container()
    before = calls(model)
    with record(model) as recording:
        model.block.norm(torch.randn(8, 4))
    assert recording.phases[0].module == "block.norm" and calls(model) == before


def test_a_recording_that_ends_inside_a_call():
    class Ending(nn.Linear):
        def forward(self, x):
            recording.__exit__(None, None, None)
            return super().forward(x)

    model = Ending(8, 4)
    before = calls(model)
    recording = record(model)
    recording.__enter__()
    model(X)
    assert calls(model) == before
    with record(model) as again:
        nn.Linear.forward(model, X)
    assert again.forwards == 0


# -- what is declared, and what could not be watched ------------------------------------------


def test_a_line_can_be_declared_and_an_unused_declaration_is_said():
    model = net()

    def rollout():
        with torch.no_grad():
            return model(X)  # evalmode: on purpose

    with record(model) as recording:
        rollout()
    assert recording.findings == []
    assert [f.kind for f in recording.declared] == ["evaluated-in-train-mode"]
    with record(model, on_purpose=["look", "nowhere"]) as recording, torch.no_grad():
        look(model, batches())
    assert recording.findings == [] and len(recording.declared) == 1
    assert any(note.startswith("nowhere is declared") for note in recording.notes)


def test_what_could_not_be_watched_is_said():
    model = net()
    optimizer = sgd(model)
    with record(model) as recording:
        thread = threading.Thread(target=train, args=(model, optimizer, batches()))
        thread.start()
        thread.join()
    assert any("calls from another thread" in note for note in recording.notes)
    assert any("no forward of the model was seen" in note for note in recording.notes)
    with record(model) as recording:
        copy.deepcopy(model)(X)
        model.append(nn.Dropout())
    said = " ".join(recording.notes)
    assert "1 call of copies" in said and "added to the model meanwhile: '5'" in said


def test_an_error_of_the_recorders_own_is_none_of_the_programs():
    class Odd(nn.Sequential):
        def parameters(self, recurse=True):
            raise RuntimeError("not today")

    model = Odd(nn.Linear(8, 4), nn.Dropout())
    with record(model) as recording, torch.no_grad():
        assert model(X).shape == (16, 4)
    assert recording.forwards == 1


def test_closing_takes_one_pass_and_a_row_a_line():
    heads = nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.Dropout()) for _ in range(3)]).eval()
    order = torch.randint(3, (6000,), generator=torch.Generator().manual_seed(0)).tolist()
    x = torch.ones(1, 2)
    with record(heads) as recording, torch.inference_mode():
        for head in order:
            heads[head](x)
    assert recording.forwards == 6000 and len(recording.phases) == 1
    assert recording.phases[0].module == "0, 1, 2" or recording.phases[0].module.count(",") == 2
