"""Exercises: stub and solution come from one cell, in which marks stand around the solution.

The marks are nbgrader's. A notebook of the book holds the whole cell, which is run and checked
like any other; what a learner gets has a place for their own code instead.
"""

from __future__ import annotations

import copy
import re
from textwrap import indent

from nbformat import NotebookNode

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
PLACE = "...  # your code here"
_BLOCK = re.compile(rf"^([ \t]*){BEGIN}\n(.*?)^[ \t]*{END}\n?", flags=re.DOTALL | re.MULTILINE)


def stub(source: str) -> str:
    r"""A cell without its solution.

    Examples
    --------
    >>> print(stub('def f(x):\n    ### BEGIN SOLUTION\n    return x\n    ### END SOLUTION'))
    def f(x):
        ...  # your code here
    """
    return answered(source, PLACE)


def answered(source: str, answer: str) -> str:
    r"""A cell with another answer in the place of its solution.

    Examples
    --------
    >>> answered('### BEGIN SOLUTION\nshare = 0.9\n### END SOLUTION', "share = 1 - 0.1")
    'share = 1 - 0.1'
    """
    return _BLOCK.sub(lambda found: f"{indent(answer, found[1])}\n", source).rstrip("\n")


def solution(source: str) -> str:
    r"""A cell without the marks around its solution.

    Examples
    --------
    >>> solution('### BEGIN SOLUTION\nshare = 0.9\n### END SOLUTION')
    'share = 0.9'
    """
    return _BLOCK.sub(lambda found: found[2], source).rstrip("\n")


def is_exercise(cell: NotebookNode) -> bool:
    return cell["cell_type"] == "code" and "exercise" in cell["metadata"].get("tags", [])


def split(cell: NotebookNode) -> tuple[NotebookNode, NotebookNode]:
    """The cell that asks, and the cell that answers, with the outputs that it has."""
    asks, answers = copy.deepcopy(cell), copy.deepcopy(cell)
    text = "".join(cell["source"])
    asks["source"], asks["outputs"], asks["execution_count"] = stub(text), [], None
    answers["source"], answers["id"] = solution(text), f"{cell['id']}-solution"
    answers["metadata"]["tags"] = ["hide-cell", "solution"]
    return asks, answers
