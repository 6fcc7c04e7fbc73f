"""The zoo: its results are whole and judged, and its children may hang, die and eat memory."""

import json
import os
import time
from collections import Counter
from fnmatch import fnmatchcase

import pytest
import torch
from torch import nn

from utils.kinds import KINDS
from zoo.child import Died, OverTheLimit, in_child
from zoo.entry import Entry
from zoo.examine import examine
from zoo.results import (
    REPORTS,
    RESULTS,
    STATUSES,
    Journal,
    findings_of,
    unjudged,
    verdict_on,
    verdicts,
    write_page_data,
)
from zoo.runner import Limits, run
from zoo.shrink import shrunk

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

RESULT = json.loads(RESULTS.read_text())
MODELS = RESULT["models"]


def test_every_model_is_told_in_one_form_and_in_order():
    names = [(model["package"], model["model"]) for model in MODELS]
    assert names == sorted(set(names))
    for model in MODELS:
        assert model["status"] in STATUSES
        assert ("findings" in model) == (model["status"] == "audited"), model
        assert ("error" in model) != ("findings" in model), model
        assert model["version"] or model["status"] == "not built", model
        assert model["seconds"] == 2 ** (model["seconds"].bit_length() - 1)


def test_the_counts_are_those_of_the_models():
    counted = Counter(model["status"] for model in MODELS)
    assert RESULT["counts"] == {status: counted[status] for status in STATUSES}
    assert counted["audited"] >= 500


def test_findings_are_of_kinds_that_the_book_explains():
    assert {found["kind"] for _, found in findings_of(MODELS)} <= set(KINDS)


def test_every_finding_has_been_looked_into():
    assert unjudged(MODELS) == []


def test_no_false_alarm_is_left():
    false = [
        f"{model['package']}/{model['model']}: {found['kind']}"
        for model, found in findings_of(MODELS)
        if verdict_on(model, found).verdict == "false alarm"
    ]
    assert false == []


def test_every_mistake_has_a_report_with_its_measurement():
    for verdict in verdicts():
        assert verdict.why.endswith(".") and ":" in verdict.where, verdict
        assert (verdict.verdict == "mistake") == bool(verdict.report), verdict
        if verdict.report:
            text = (REPORTS / f"{verdict.report}.md").read_text()
            assert text.startswith(f"# {verdict.package}: ")
            assert verdict.where.partition(":")[0] in text
            for part in ("```python", "```text", "**Expected.**"):
                assert part in text, (verdict.report, part)
            assert "FAILED" not in text


def test_a_verdict_is_about_something():
    """Of a package that was audited; verdicts on findings that are gone would mislead."""
    packages = {model["package"] for model in MODELS}
    assert {verdict.package for verdict in verdicts()} <= packages


def test_a_finding_without_a_verdict_is_told():
    found = {"kind": "random-in-eval", "module": "", "measured": ""}
    model = {"package": "no-such-package", "model": "Net", "findings": [found]}
    assert unjudged([model]) == [("no-such-package/Net", found)]


# The children.


def hang():
    time.sleep(60)


def eat():
    """More than the limit, in pieces that are kept."""
    return sum(len(piece) for piece in [bytearray(1 << 26) for _ in range(100)])


def test_a_child_answers_or_says_why_not():
    assert in_child(lambda: {"a": 1}) == {"a": 1}
    with pytest.raises(OverTheLimit, match="more than 0.3 seconds"):
        in_child(hang, seconds=0.3)
    with pytest.raises(Died, match="exit code 3"):
        in_child(lambda: os._exit(3))
    with pytest.raises(Died, match="signal SIGABRT"):
        in_child(os.abort, seconds=5)
    with pytest.raises(Died, match="ValueError"):
        in_child(lambda: int("one"))
    with pytest.raises(OverTheLimit, match="more than 500 MB"):
        in_child(eat, seconds=20, megabytes=500)


class Net(nn.Linear):
    """Does what it is told, once it is called."""

    def __init__(self, deed):
        super().__init__(4, 4)
        self.deed = deed

    def forward(self, x):
        self.deed()
        return super().forward(x)


def entry(name, deed=bool):
    return Entry("torch", name, lambda: (Net(deed), torch.randn(4, 4)))


def unbuilt():
    raise KeyError("no such model")


ENTRIES = [
    entry("fine"),
    entry("hangs", hang),
    entry("dies", lambda: os._exit(1)),
    entry("eats", eat),
    entry("fails", lambda: int("one")),
    Entry("torch", "unbuilt", unbuilt),
    Entry("torch", "draws", lambda: (Drawing(), torch.randn(4, 4))),
]


class Drawing(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x)


def test_a_run_outlives_its_models_and_goes_on_where_it_was(tmp_path, capfd):
    path, limits = tmp_path / "journal.jsonl", Limits(seconds=3, megabytes=600)
    run(ENTRIES[:2], Journal(path), limits)
    path.write_text(path.read_text() + '{"package": "torch", "mod')  # it was interrupted
    again = Journal(path)
    run(ENTRIES, again, limits)
    lines = capfd.readouterr().out.splitlines()
    assert sum("torch/hangs" in line for line in lines) == 1  # it was done
    result = write_page_data(Journal(path), ENTRIES, tmp_path / "page.json")
    assert {model["model"]: model["status"] for model in result["models"]} == {
        "draws": "audited",
        "dies": "died",
        "eats": "over the limit",
        "fails": "failed before the audit",
        "fine": "audited",
        "hangs": "over the limit",
        "unbuilt": "not built",
    }
    [(model, found)] = findings_of(result["models"])
    assert (model["model"], found["kind"]) == ("draws", "random-in-eval")


def test_a_model_is_audited_as_a_trained_one():
    build = lambda: (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), torch.randn(64, 4))  # noqa: E731
    record = examine(Entry("torch", "Norm", build))
    assert record["findings"] == [] and record["notes"] == []


# The shrinker.


def test_a_configuration_is_shrunk_through_its_nested_ones():
    config = {
        "model_type": "outer",
        "hidden_size": 768,
        "dropout": 0.1,
        "depths": [2, 2, 18, 2],
        "num_heads": [3, 6, 12, 24],
        "hidden_sizes": [96, 192, 384, 768],
        "use_cache": True,
        "text_config": {"model_type": "inner", "num_layers": 12, "eos_token_id": 49407},
    }
    small = shrunk(config)
    assert small["depths"] == [1, 1, 1, 2] and small["num_heads"] == [2, 2, 2, 2]
    assert small["hidden_sizes"] == [16, 32, 48, 64]
    assert small["text_config"]["model_type"] == "inner"
    assert small["text_config"]["eos_token_id"] < 99
    assert "use_cache" not in small and "dropout" not in small


def test_what_is_mended_reaches_where_it_is_meant():
    config = {"width": 64, "a_config": {"width": 64}, "b_config": {"width": 64}}
    small = shrunk(config, {"width": 8, "b_config.width": 4})
    assert small == {"width": 8, "a_config": {"width": 8}, "b_config": {"width": 4}}


def test_patterns_of_verdicts_are_plain():
    """A name with a bracket would be a set of characters."""
    assert all("[" not in pattern for verdict in verdicts() for pattern in verdict.models)
    assert fnmatchcase("SABlock, flash, dropout", "*, flash, dropout")
