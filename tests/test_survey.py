"""The survey against what is known of single layers, and against the installed torch.nn."""

import inspect

import pytest
import torch
from torch import nn

from utils.survey import Case, measure, public_modules, survey, survey_class


def test_every_public_class_has_a_record_and_nothing_else(records):
    public = {
        name
        for name in dir(nn)
        if inspect.isclass(getattr(nn, name)) and issubclass(getattr(nn, name), nn.Module)
    }
    assert set(records) == public == set(public_modules())


def test_none_is_left_unsurveyed_and_what_cannot_run_says_why(records):
    unmeasured = {name: r.reason for name, r in records.items() if r.differs is None}
    assert set(unmeasured) == {"Module", "ParameterDict", "ParameterList", "RNNBase", "RNNCellBase"}
    assert all("no forward" in reason for reason in unmeasured.values())


@pytest.mark.parametrize(
    ("differs", "names"),
    [
        ("always", "AlphaDropout Dropout Dropout1d Dropout2d Dropout3d FeatureAlphaDropout RReLU"),
        (
            "by configuration",
            "BatchNorm2d InstanceNorm1d LSTM GRU RNN MultiheadAttention Transformer",
        ),
        ("never", "Linear Conv2d ReLU GELU GroupNorm LayerNorm RMSNorm Embedding CrossEntropyLoss"),
        ("inherits", "Sequential ModuleList ModuleDict DataParallel Container"),
    ],
)
def test_known_layers(records, differs, names):
    assert {name: records[name].differs for name in names.split()} == dict.fromkeys(
        names.split(), differs
    )


def test_arguments_that_decide_are_named(records):
    assert records["BatchNorm1d"].reason == "track_running_stats"
    assert records["LSTM"].reason == "dropout with num_layers above 1"
    assert records["MultiheadAttention"].reason == "dropout"


def test_randomness_buffers_and_neighbours(records):
    assert records["Dropout"].random_in == ("train",)
    assert records["FractionalMaxPool2d"].random_in == ("train", "eval")
    assert records["BatchNorm2d"].moves_in == ("train",)
    with_statistics, without = (records["BatchNorm2d"].measurements[i] for i in (1, 0))
    assert with_statistics.mixes_rows_in == ("train",)
    assert without.mixes_rows_in == ("train", "eval") and not without.differs
    assert records["InstanceNorm2d"].mixes_rows_in == ()
    assert records["GroupNorm"].mixes_rows_in == ()
    listening = [r for r in records.values() if r.mixes_rows_in]
    assert all("BatchNorm" in r.name for r in listening)
    assert [r.name for r in records.values() if "eval" in r.moves_in] == [
        "Embedding",
        "EmbeddingBag",
    ]


def test_configurations_are_named_where_they_matter(records):
    assert records["Dropout"].where(lambda m: m.random_in) == "train"
    assert (
        records["LSTM"].where(lambda m: m.random_in) == "train with dropout with num_layers above 1"
    )
    mixing = records["BatchNorm2d"].where(lambda m: m.mixes_rows_in or ())
    assert mixing == "train; eval without track_running_stats"


def test_the_fast_path_rounds(records):
    assert records["TransformerEncoderLayer"].differs_by_rounding
    rounding = [
        m.arguments for m in records["MultiheadAttention"].measurements if m.differs_by_rounding
    ]
    assert rounding == ["with need_weights=False"]
    assert not records["Linear"].differs_by_rounding


def test_what_the_gradient_switch_changes_in_eval_mode(records):
    attention = {name for name, record in records.items() if record.differs_by_rounding}
    rounding = {name for name, record in records.items() if record.rounds_without_gradients}
    assert attention <= rounding
    # The path of oneDNN, where this PyTorch has it.
    assert rounding - attention <= {"LSTM"}


def test_a_padding_mask_makes_an_encoder_without_dropout_differ(records):
    differing = [m.arguments for m in records["TransformerEncoder"].measurements if m.differs]
    assert "with batch_first and a padding mask, without dropout" in differing


def test_measure_sees_a_row_that_looks_at_its_neighbours():
    class Centred(nn.Module):
        def forward(self, x):
            return x - x.mean(0) if self.training else x

    found = measure(Centred, lambda: (torch.randn(4, 3),))
    assert found.differs and found.mixes_rows_in == ("train",) and found.random_in == ()


def test_measure_sees_a_buffer_that_moves_in_eval_mode():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.tensor(0))

        def forward(self, x):
            self.calls += 1
            return x

    found = measure(Counts, lambda: (torch.randn(4, 3),))
    assert found.moves_in == {"train": ("calls",), "eval": ("calls",)} and not found.differs


def test_a_class_of_a_later_torch_shows_up_by_itself(monkeypatch):
    class BrandNew(nn.Module):
        pass

    monkeypatch.setattr(nn, "BrandNew", BrandNew, raising=False)
    record = next(record for record in survey() if record.name == "BrandNew")
    assert record.differs is None and record.reason == "not yet surveyed"


def test_a_class_that_fails_says_how():
    record = survey_class(
        "Linear", Case({"": lambda: nn.Linear(3, 3)}, lambda: (torch.ones(2, 4),))
    )
    assert record.differs is None and record.reason.startswith("RuntimeError: mat1 and mat2")


def test_the_random_state_is_left_alone():
    state = torch.get_rng_state()
    survey()
    assert torch.equal(torch.get_rng_state(), state)
