"""A model run again from one state: what is put back, traced and blamed."""

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from utils.nested import count_non_finite, iter_leaves, map_tensors, relative_gap
from utils.random_state import randomness_kept, seed_everything
from utils.rerun import RerunModel, put_in_mode
from utils.rows import batch_size, rows_apart, select_rows
from utils.snapshot import Snapshot, own_state
from utils.tracing import blame


class Changes(nn.Module):
    """Changes all that a forward can change of its model."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.large = nn.Parameter(torch.zeros(300, 300))
        self.seen, self.count, self.array = [], 0, np.zeros(2)
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x):
        self.seen.append(len(x))
        self.count += 1
        self.array += 1
        self.made = torch.rand(2, generator=self.generator)
        with torch.no_grad():
            self.layer.weight.add_(1)
            self.large.data += 1
        self.norm.train()
        self.layer.extra = nn.Dropout()
        return self.norm(self.layer(x))


def everything(model):
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        [m.training for m in model.modules()],
        list(model.seen), model.count, model.array.copy(), hasattr(model, "made"),
        [name for name, _ in model.named_modules()], model.generator.get_state(),
    )  # fmt: skip


def same(one, other):
    return relative_gap(list(one), list(other)) == 0


X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))


def test_a_snapshot_puts_everything_back():
    model = Changes().eval()
    before, snapshot = everything(model), Snapshot(model)
    model(X)
    assert not same(everything(model), before)  # or putting back could not fail
    snapshot.put_back()
    assert same(everything(model), before)


@pytest.mark.parametrize("in_place", [False, True])
def test_runs_start_from_one_state_and_leave_the_model_alone(in_place):
    model = Changes().eval()
    if in_place:
        model.back = lambda: model  # a function that knows the model: no copy can be made
    before = everything(model)
    with RerunModel(model, (X,)) as rerun:
        assert rerun.in_place is in_place
        outputs = [rerun.run(training=False, seed=3).output for _ in range(3)]
    assert relative_gap(outputs[0], outputs[2]) == 0
    assert same(everything(model), before)


def test_one_copy_serves_all_runs():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    with RerunModel(model, (X,)) as rerun:
        first = rerun.pristine_copy()
        with torch.no_grad():
            first[0].weight.zero_()
        assert rerun.pristine_copy() is first and torch.equal(first[0].weight, model[0].weight)
        assert rerun.own_copy() is not first


def test_only_what_differs_is_copied():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    other = copy.deepcopy(model)
    assert own_state(other, like=model) == {}
    other[1].running_mean.add_(1)
    assert list(own_state(other, like=model)) == [("1", "running_mean", "")]


def test_a_run_sees_random_numbers_modes_and_what_reaches_a_norm():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout())
    with RerunModel(model, (X,)) as rerun:
        quiet = rerun.run(training=False, seed=1, measure=True)
        assert not quiet.used_randomness and not quiet.modes_changed
        ((count, mean, variance),) = quiet.norm_inputs["0"]
        assert count == 8
        torch.testing.assert_close(mean, X.mean(0))
        torch.testing.assert_close(variance, X.var(0, correction=0))
        assert rerun.run(training=True, seed=1).used_randomness


def test_the_innermost_call_is_blamed():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Dropout()), nn.Linear(4, 2))
    with RerunModel(model, (X,)) as rerun, randomness_kept():
        runs = [rerun.run(training=True, seed=seed, trace=True) for seed in (3, 4)]
    assert [call.name for call in blame(*runs, lambda a, b: relative_gap(a, b) > 0)] == ["1.1"]


def test_a_model_that_cannot_switch_gets_its_flags_set():
    class Refuses(nn.Linear):
        def train(self, mode=True):
            raise RuntimeError

    model = Refuses(2, 2)
    put_in_mode(model, False)
    assert model.training is False


def test_nested_values_are_walked_compared_and_made_anew():
    value = {"a": [torch.tensor([2.0, 4.0]), 3], "b": (torch.tensor([1]),)}
    assert [path for path, _ in iter_leaves(value)] == ["['a'][0]", "['a'][1]", "['b'][0]"]
    assert relative_gap(value, map_tensors(value, lambda t: t.clone())) == 0
    other = map_tensors(value, lambda t: t + 1)
    assert relative_gap(value, other) == float("inf")  # whole numbers differ or not
    assert relative_gap(torch.tensor([2.0, 4.0]), torch.tensor([2.0, 3.0])) == 0.25
    assert relative_gap(torch.tensor([float("nan")]), torch.tensor([float("nan")])) == 0
    assert count_non_finite([torch.tensor([float("-inf"), 0.0]), float("inf")]) == 1


def test_rows_are_taken_and_compared():
    batch = {"x": torch.arange(12.0).reshape(4, 3), "scale": torch.ones(3)}
    assert batch_size((batch,)) == 4
    part = select_rows(batch, 4, slice(1, 3))
    assert torch.equal(part["x"], batch["x"][1:3]) and part["scale"] is batch["scale"]
    whole = batch["x"] * 2
    assert rows_apart(whole, part["x"] * 2, 4, slice(1, 3), size=2) == 0
    assert rows_apart(whole, part["x"], 4, slice(1, 3), size=2) > 0
    assert rows_apart(torch.tensor(1.0), torch.tensor(1.0), 4, slice(1, 3), size=2) is None


def test_seeds_and_states_of_all_generators():
    def draw():
        import random

        return torch.rand(1).item(), np.random.rand(), random.random()

    seed_everything(1)
    with randomness_kept():
        first = draw()
    assert draw() == first
    seed_everything(1)
    assert draw() == first


class Makes(OrderedDict):
    """A table that makes what it is asked for, as transformers' table of activations does."""

    def __getitem__(self, name):
        return super().__getitem__(name)()


made_on_demand = Makes(tanh=nn.Tanh, relu=nn.ReLU)


class AsksATable(nn.Module):
    table = made_on_demand

    def __init__(self):
        super().__init__()
        self.own = {"table": made_on_demand}

    def forward(self, x):
        return made_on_demand["tanh"](x) + self.own["table"]["relu"](x)


def test_a_table_that_makes_what_it_gives_is_left_alone():
    with RerunModel(AsksATable(), (torch.ones(2),)) as rerun:
        rerun.run(training=False, seed=0)
        rerun.run(training=True, seed=0)
    assert list(dict.values(made_on_demand)) == [nn.Tanh, nn.ReLU]
