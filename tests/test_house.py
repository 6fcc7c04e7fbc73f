"""The house itself: which module may use which, constants with one source, README and code."""

import ast
import re
from pathlib import Path

import pytest

from utils.checks import TOLERANCE, check_prediction
from utils.colors import ON_PAGES, css_variables
from utils.listening import listens
from utils.recorder.verdicts import EXCUSES

ROOT = Path(__file__).parent.parent
UTILS = ROOT / "utils"
MODULES = sorted(
    {
        path.relative_to(UTILS).parts[0].removesuffix(".py")
        for path in UTILS.rglob("*.py")
        if path.parent != UTILS or path.stem not in ("__init__", "__main__")
    }
)
# From below to above; a module may use those before it.
LAYERS = [
    {
        "arguments",
        "torch_internals",
        "random_state",
        "kinds",
        "colors",
        "launch",
        "checks",
        "data",
        "uncertainty",
        "calibration",
    },
    {"listening", "nested", "findings", "losses", "survey_cases"},
    {"module_tree", "rows", "snapshot"},
    {"modes", "outside"},
    {"batches", "tracing", "survey", "models"},
    {"rerun"},
    {"scores"},
    {"evaluation"},
    {"training", "batch_norm", "audit", "export", "monte_carlo"},
    {"plotting", "trained"},
    {"recorder"},
    {"command"},
]


def used_by(module):
    """The other modules that a module imports when it is loaded."""
    paths = (
        [UTILS / f"{module}.py"]
        if (UTILS / f"{module}.py").exists()
        else (UTILS / module).glob("*.py")
    )
    for path in paths:
        depth = len(path.relative_to(UTILS).parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == depth and node.module:
                yield node.module.split(".")[0]
            assert not (
                isinstance(node, ast.ImportFrom)
                and node.level == 0
                and node.module.startswith("utils")
            )


def test_every_module_has_its_layer():
    assert set(MODULES) == set().union(*LAYERS)


@pytest.mark.parametrize("module", MODULES)
def test_arrows_go_one_way(module):
    below = set()
    for layer in LAYERS:
        if module in layer:
            break
        below |= layer
    type_only = {"recorder"} if module == "plotting" else set()
    assert set(used_by(module)) <= below | {module} | type_only


def test_the_readme_names_every_module():
    named = set(
        re.findall(r"`(\w+)`", (ROOT / "README.md").read_text().partition("## The package")[2])
    )
    assert set(MODULES) <= named


def test_private_names_of_torch_stand_in_one_module():
    private = re.compile(r"torch\.(?:_C|_dynamo|_functorch)|\._raw_saved|from torch[\w.]* import _")
    found = [p.name for p in UTILS.rglob("*.py") if private.search(p.read_text())]
    assert set(found) == {"torch_internals.py"}


def test_colours_of_pages_come_from_the_module_of_colours():
    style = "".join(path.read_text() for path in (ROOT / "_static").glob("*.css"))
    for theme in ("light", "dark"):
        assert "--mode-train" in css_variables(theme)
        assert not any(
            color in style for color in (ON_PAGES[theme]["train"], ON_PAGES[theme]["eval"])
        )


def test_the_page_judges_a_guess_as_the_notebook_does(capsys):
    script = (ROOT / "_static/book-predictions.js").read_text()
    assert re.findall(r"TOLERANCE = ([\d.]+);", script) == [str(TOLERANCE)]
    for guess in (0.5, 0.6):
        check_prediction(guess, 0.5)
        verdict = capsys.readouterr().out.splitlines()[-1]
        assert f'"{verdict}"' in script


def test_each_excuse_says_its_principle_and_has_a_name_of_its_own():
    for excuse in EXCUSES:
        assert re.match(r"Principle [1-4]: ", excuse.__doc__)
    assert len({excuse.__name__ for excuse in EXCUSES}) == len(EXCUSES)


def test_listens_is_where_modes_says(monkeypatch):
    from utils import modes

    assert modes.listens is listens
