"""The exercises mark the reader: right answers of any style pass, stubs and wrong ones do not."""

import ast
import asyncio
import contextlib
import copy
import inspect
import io
import json
import sys
import types
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from exercise_answers import ANSWERS
from exercises import BEGIN, END, answered, is_exercise, split, stub
from torch import nn

CHAPTERS = sorted((Path(__file__).parent.parent / "chapters").glob("[0-9]*.ipynb"))


def code_of(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def own_copy(names):
    """The variables of a chapter, so that an answer can spoil none of them for the next."""
    memo: dict = {}
    kinds = (torch.Tensor, nn.Module, list, dict)
    copied = dict(names)
    for name, value in names.items():
        if isinstance(value, kinds) and not name.startswith("_"):
            known = len(memo)
            try:
                copied[name] = copy.deepcopy(value, memo)
            except Exception:
                while len(memo) > known:
                    memo.popitem()  # what a failed copy leaves speaks of objects that are gone
    return copied


def run(source, names):
    """Run a cell as in a notebook; return what it printed."""
    printed = io.StringIO()
    code = compile(source, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(printed):
        waits = eval(code, names)
        if inspect.iscoroutine(waits):
            asyncio.run(waits)
    return printed.getvalue()


def judged(answer, check, names):
    """What the check says of an answer: whether all holds, and its words."""
    names = own_copy(names)
    try:
        run(answer, names)
    except Exception as error:
        return False, f"{type(error).__name__}: {error}"
    try:
        words = run(check, names)
    except Exception as error:
        return False, f"the check fails with {type(error).__name__}: {error}"
    return "not yet" not in words, words


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def exercises(request, monkeypatch):
    """For each exercise of a chapter: its letter, its cell, its check, and what stands before."""
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)  # classes are pickled by name
    names, found = vars(module), []
    before = torch.get_default_dtype(), torch.get_rng_state()
    cells = code_of(request.param)
    for cell, following in zip(cells, [*cells[1:], None]):
        source = "".join(cell["source"])
        if "remove-cell" in cell["metadata"].get("tags", []):
            continue
        if is_exercise(cell):
            assert "check" in following["metadata"]["tags"]
            letter = "ABC"[len(found)]
            found.append((letter, source, "".join(following["source"]), own_copy(names)))
        run(source, names)
    yield request.param.stem, found
    torch.set_default_dtype(before[0])
    torch.set_rng_state(before[1])


@pytest.mark.filterwarnings("ignore")
def test_the_exercises_of_a_chapter(exercises):
    chapter, found = exercises
    wrong_verdicts = []
    for letter, source, check, names in found:
        right, wrong = ANSWERS[chapter, letter]
        assert len(right) >= 2 and len(wrong) >= 3
        for answer in [source, *(answered(source, text.strip()) for text in right)]:
            passes, words = judged(answer, check, names)
            if not passes:
                wrong_verdicts.append(f"{letter}, a right answer: {words}\n{answer}")
        for answer in [stub(source), *(answered(source, text.strip()) for text in wrong)]:
            passes, words = judged(answer, check, names)
            if passes or "the check fails" in words:
                wrong_verdicts.append(f"{letter}, a wrong answer: {words}\n{answer}")
    assert not wrong_verdicts, "\n\n".join(wrong_verdicts)
    assert {key[1] for key in ANSWERS if key[0] == chapter} == {letter for letter, *_ in found}


def test_stub_and_solution_come_from_one_cell():
    source = f"def f():\n    {BEGIN}\n    return 1\n    {END}\n\n\nx = f()"
    cell = {
        "cell_type": "code", "id": "a", "metadata": {"tags": ["exercise"]}, "source": source,
        "outputs": [1], "execution_count": 3,
    }  # fmt: skip
    asks, answers = split(cell)
    assert asks["source"] == "def f():\n    ...  # your code here\n\n\nx = f()"
    assert answers["source"] == "def f():\n    return 1\n\n\nx = f()"
    assert asks["outputs"] == [] and answers["outputs"] == [1]
