"""What stands in a notebook and no assignment needs: a person decides, no points are lost by it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from IPython.core.inputtransformer2 import TransformerManager

ASKED_OF_PYTHON = (
    "ctypes", "gc.get_", "inspect.stack", "sys._getframe", "settrace", "setprofile", "__builtins__",
    "__subclasses__", "__import__", "answers.jsonl", "stdin", "os.kill", "/proc/", "fromhex",
    "b64decode", "torch.manual_seed =", "torch.equal =",
)  # fmt: skip
RUNS_TEXT = {"exec", "eval", "compile"}


def look_at(cells: list[str], shortcuts: Iterable[str]) -> list[str]:
    """Name it, each thing once.

    Parameters
    ----------
    cells
        The student's code.
    shortcuts
        Words, in small letters, in the names of what an answer may not be made of.

    Returns
    -------
    list of str
        Names and words as they stand in the code. Who wants to hide one can, by other words.

    Examples
    --------
    >>> look_at(["from torch.nn.functional import dropout as drop"], ["dropout"])
    ['dropout']
    >>> look_at(["self.dropout = Dropped()"], ["dropout"])
    []
    >>> look_at(["model.eval(); exec(text)"], [])
    ['exec']
    """
    text = "\n".join(cells)
    named = {word: None for word in ASKED_OF_PYTHON if word in text}
    for cell in cells:
        try:
            code = ast.parse(TransformerManager().transform_cell(cell))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue  # it does not run either
        for name in _names(code):
            shortcut = name.isidentifier() and any(word in name.lower() for word in shortcuts)
            if name in RUNS_TEXT or shortcut:
                named[name] = None
    return list(named)


def _names(code: ast.AST) -> Iterator[str]:
    """Names that are taken from elsewhere; what an object of one's own holds is left out."""
    for node in ast.walk(code):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id == "self"
            if not own and node.attr not in RUNS_TEXT:  # model.eval() is another one
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Name) and node.id in RUNS_TEXT:
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # as getattr takes it
