"""Modes: what PyTorch itself does, before and after our functions."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from utils.audit import audit
from utils.modes import evaluating, keep_in_eval, listens, mode_of, mode_table, release_from_eval
from utils.survey_cases import layer_cases


def flags(model):
    return {name: module.training for name, module in model.named_modules()}


@pytest.fixture
def net():
    """A nested model with one part frozen on purpose and one shared module."""
    shared = nn.Dropout(0.5)
    model = nn.ModuleDict(
        {
            "body": nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), shared),
            "head": nn.Sequential(shared, nn.Linear(4, 2)),
        }
    )
    model["body"][1].eval()
    return model


def test_evaluating_reaches_every_submodule_and_restores_each(net):
    before = flags(net)
    assert len(set(before.values())) == 2  # or restoring could not fail
    with evaluating(net) as same:
        assert same is net
        assert not any(flags(net).values())
    assert flags(net) == before


def test_evaluating_restores_after_an_exception(net):
    before = flags(net)
    with pytest.raises(KeyError), evaluating(net):
        raise KeyError
    assert flags(net) == before


def test_evaluating_nests(net):
    before = flags(net)
    with evaluating(net["body"]):
        inside = flags(net)
        with evaluating(net):
            assert not any(flags(net).values())
        assert flags(net) == inside
    assert flags(net) == before


def test_evaluating_restores_when_eval_itself_fails():
    class Refuses(nn.Module):
        def train(self, mode=True):
            if not mode:
                raise RuntimeError("no")
            return super().train(mode)

    net = nn.Sequential(nn.Dropout(), Refuses())
    with pytest.raises(RuntimeError, match="no"), evaluating(net):
        raise AssertionError("never reached")
    assert all(flags(net).values())


def test_evaluating_leaves_modules_added_inside_alone(net):
    with evaluating(net):
        net["new"] = nn.Dropout()
    assert net["new"].training


def test_evaluating_works_without_parameters_and_on_half_precision():
    for model in (nn.Dropout(), nn.Sequential(nn.Linear(2, 2), nn.Dropout()).half()):
        with evaluating(model):
            assert not model.training
        assert model.training


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*deprecated:DeprecationWarning")
def test_evaluating_works_on_a_scripted_module():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    with evaluating(scripted):
        x = torch.ones(3, 2)
        assert torch.equal(scripted(x), scripted(x))
    assert mode_of(scripted) == "train"


@pytest.mark.parametrize(
    "function",
    [mode_of, mode_table, keep_in_eval, release_from_eval, lambda m: next(evaluating(m).gen)],
)
def test_what_is_no_module_is_named(function):
    with pytest.raises(TypeError, match="is a list; expected a torch.nn.Module"):
        function([nn.Dropout()])


def test_mode_of_has_three_answers(net):
    assert mode_of(net) == "mixed"
    assert mode_of(net.train()) == "train"
    assert mode_of(net.eval()) == "eval"


def test_mode_table_agrees_with_the_flags(net):
    table = mode_table(net)
    expected = {
        name: "train" if module.training else "eval"
        for name, module in net.named_modules(remove_duplicate=False)
    }
    assert dict(table) == expected
    assert {"body.2", "head.0"} <= set(table)  # the shared module, under both names
    assert "BatchNorm1d" in repr(table) and repr(table).count("\n") == len(table)


def test_keep_in_eval_holds_through_train_and_lets_the_rest_go(net):
    keep_in_eval(net["body"])
    net.train()
    assert mode_of(net["body"]) == "eval"
    assert net["head"][1].training and net.training
    net["body"].train()
    net["body"][2].train()
    assert mode_of(net["body"]) == "eval"


def test_train_still_returns_the_module():
    layer = keep_in_eval(nn.Dropout())
    assert layer.train() is layer and layer.train(mode=True) is layer


def copies(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.load(file, weights_only=False),
    ]


@pytest.mark.parametrize("way", range(3), ids=["deepcopy", "pickle", "torch.save"])
def test_keep_in_eval_survives_copies_which_are_on_their_own(way):
    net = nn.Sequential(keep_in_eval(nn.Sequential(nn.BatchNorm1d(4))), nn.Dropout())
    twin = copies(net)[way].train()
    assert mode_of(twin[0]) == "eval" and twin[1].training
    release_from_eval(twin).train()
    assert mode_of(twin) == "train"
    assert mode_of(net.train()[0]) == "eval"  # releasing the copy did not release the original


def test_keep_in_eval_leaves_state_dict_gradients_and_repr_alone():
    plain, kept = nn.BatchNorm1d(4), keep_in_eval(nn.BatchNorm1d(4))
    assert plain.state_dict().keys() == kept.state_dict().keys()
    assert repr(plain) == repr(kept)
    kept.load_state_dict(plain.state_dict())
    kept(torch.randn(3, 4)).sum().backward()
    assert kept.weight.grad is not None
    assert torch.equal(kept.running_mean, torch.zeros(4))


def test_release_ignores_a_train_of_the_users_own():
    class Own(nn.Module):
        def train(self, mode=True):
            return super().train(False)

    own = Own()
    assert release_from_eval(own).train().training is False


def test_evaluating_respects_what_is_kept():
    net = nn.Sequential(keep_in_eval(nn.Dropout()), nn.Dropout())
    with evaluating(net):
        pass
    assert [layer.training for layer in net] == [False, True]


@pytest.mark.filterwarnings("ignore")
def test_listens_agrees_with_what_the_survey_measures(records):
    parted, cases = {}, layer_cases()
    for record in records.values():
        name, case = record.name, cases[record.name]
        builds = {} if isinstance(case, str) or case.container else case.builds
        for measured, build in zip(record.measurements, builds.values(), strict=bool(builds)):
            said = any(listens(module) for module in build().modules())
            if said != (measured.differs or bool(measured.moves_in["train"])):
                parted[name, measured.arguments] = said
    assert set(parted) == {
        # With max_norm an embedding changes its weights in both modes: no answer to the switch.
        ("Embedding", "with max_norm"),
        ("EmbeddingBag", "with max_norm"),
        # What a padding mask would change cannot be seen without one.
        ("TransformerEncoder", "with batch_first, without dropout"),
        ("Transformer", "with batch_first, without dropout"),
    }
    assert not parted["Embedding", "with max_norm"]


class Asks(nn.Module):
    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)

    def forward(self, x):
        return [x for _ in range(1 + self.training)]


class AsksToCheckpoint(nn.Module):
    gradient_checkpointing = False

    def forward(self, x):
        return x if self.gradient_checkpointing and self.training else x + 0


class AsksUnderADecorator(nn.Module):
    @torch.no_grad()
    def forward(self, x):
        return F.dropout(x, 0.5, self.training)


class AsksByAProperty(nn.Module):
    @property
    def drops(self):
        return self.training

    def forward(self, x):
        return F.dropout(x, 0.5, self.drops)


class AsksByAnotherName(nn.Module):
    def forward(this, x):
        return F.dropout(x, 0.5, this.training)


def test_listens_to_other_classes():
    assert listens(Asks()) and listens(Asks(dropout=0.1)) and not listens(Asks(dropout=0.0))
    assert not listens(AsksToCheckpoint()) and not listens(nn.Sequential(Asks()))
    assert all(map(listens, (AsksUnderADecorator(), AsksByAProperty(), AsksByAnotherName())))
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
    assert any(listens(module) for module in spectral.modules())
    with pytest.raises(TypeError, match="module is a str"):
        listens("net")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "layer",
    [
        nn.RReLU(), nn.FeatureAlphaDropout(0.5), nn.LSTM(2, 2, 2, dropout=0.5), nn.Dropout(0.0),
        nn.LSTM(2, 2), nn.MultiheadAttention(4, 2, dropout=0.1), nn.BatchNorm1d(2), nn.Linear(2, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_listens_says_the_same_of_a_scripted_layer(layer):
    assert listens(torch.jit.script(layer)) == listens(layer)


@pytest.mark.parametrize(
    "name",
    ["RNN", "LSTM", "Dropout", "RReLU", "MultiheadAttention", "InstructHead", "BatchNormalised"],
)
@pytest.mark.parametrize(
    ("forward", "asks"),
    [(lambda self, x: F.dropout(x, 0.5, self.training), True), (lambda self, x: x, False)],
)
def test_a_class_of_ones_own_may_have_any_name(name, forward, asks):
    model = type(name, (nn.Module,), {"forward": forward})()
    assert listens(model) == asks
    assert not audit(model.eval(), torch.randn(6, 4)).findings


def test_a_wrapper_that_reads_another_flag_does_not_listen():
    class Logs(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 2)

        def log(self, value):
            return value if self.trainer.training else None

        def forward(self, x):
            return self.net(x)

    assert not listens(Logs()) and listens(Asks())


def test_a_head_that_is_put_in_later_follows_the_modes():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    keep_in_eval(net)
    net[2] = nn.Sequential(nn.Dropout(), nn.Linear(4, 2))
    net.eval()
    assert mode_of(net) == "eval"
    net.train()
    assert (net[1].training, net[2].training, net[2][0].training) == (False, True, True)
    with evaluating(net):
        assert mode_of(net) == "eval"
    assert net[2][0].training
