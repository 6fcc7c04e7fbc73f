"""The drawing of a model's modes, against named_modules and the flags themselves."""

import html
import re

import pytest
from torch import nn, ones

from utils.audit import audit
from utils.modes import mode_table
from utils.module_tree import MOST_ROWS, module_rows, tree_as_html


def drawn(rows, blamed=None):
    """The lines as one reads them."""
    text = html.unescape(re.sub("<[^>]*>", "", tree_as_html(rows, blamed)))
    return text.splitlines()[:-1]


@pytest.fixture
def nested():
    inner = nn.Sequential(nn.ReLU(), nn.Dropout())
    return nn.Sequential(nn.Linear(2, 2), inner, nn.BatchNorm1d(2).eval())


def test_every_module_has_a_line_with_its_class_and_mode(nested):
    lines = drawn(module_rows(nested))
    named = list(nested.named_modules())
    assert len(lines) == len(named) == 6
    for line, (name, module) in zip(lines, named, strict=True):
        words = line.split()
        assert type(module).__name__ in words and name.rpartition(".")[2] in line
        assert words[-1] == ("train" if module.training else "eval")
        assert line.index(words[-3 if name else -2]) == 2 + 3 * (name.count(".") + bool(name))


def test_those_that_act_on_their_mode_are_filled_and_coloured(nested):
    text = tree_as_html(module_rows(nested))
    assert re.findall(r"mode-(\w+), #\w+\)\">\u25cf</span> (.*?)  (?:train|eval)", text) == [
        ("train", "1  Dropout"),
        ("eval", "2  BatchNorm1d"),
    ]


def test_what_is_blamed_bears_a_cross_and_its_word(nested):
    lines = drawn(module_rows(nested), {"1.1": "random-in-eval"})
    assert [line for line in lines if "\u2717" in line] == [lines[4]]
    assert lines[4].endswith("1  Dropout  train  \u2717 random-in-eval")


def test_of_a_large_model_what_is_near_the_blamed_one_is_drawn():
    parts = [nn.Sequential(nn.Linear(2, 2), nn.Dropout()) for _ in range(40)]
    rows = module_rows(nn.Sequential(*parts))
    assert len(rows) == 121 > MOST_ROWS
    lines = drawn(rows, {"17.1": "random-in-eval"})
    assert [line.split()[-2] for line in lines[:-1]][:1] == ["Sequential"]
    assert len(lines) == 5 and lines[-1] == "and 117 more modules"
    assert len(drawn(rows)) == 42  # nothing is blamed: the first level


def test_a_table_and_an_audit_are_drawn_in_a_notebook(nested):
    assert mode_table(nested)._repr_html_() == tree_as_html(module_rows(nested))

    class Draws(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x)

    found = audit(nn.Sequential(nn.Linear(2, 2), Draws()), ones(8, 2))
    assert "1  Draws  train  <strong>\u2717 random-in-eval</strong>" in found._repr_html_()
    assert "<pre" not in audit(nn.Linear(2, 2), ones(8, 2))._repr_html_()


def test_names_are_text_and_never_markup():
    class Odd(nn.Module):
        pass

    Odd.__name__ = "<script>"
    assert "<script>" not in tree_as_html(module_rows(Odd()), {"": "<b>"})
