"""The comment by which a line of code declares that its mode is meant."""

from __future__ import annotations

import linecache
import re

ON_PURPOSE = re.compile(r"#\s*evalmode:\s*on purpose\b", re.IGNORECASE)
"""The comment by which a line says that its mode is meant."""


def is_declared(file: str, line: int) -> bool:
    """Whether a comment, on a line or alone on the one above, says that its mode is meant."""
    above = linecache.getline(file, line - 1).strip()
    alone = above.startswith("#") and ON_PURPOSE.search(above)
    return bool(alone or ON_PURPOSE.search(linecache.getline(file, line)))


def declared_lines(file: str) -> list[int]:
    """The lines of a file that a comment declares.

    Examples
    --------
    >>> declared_lines("<no such file>")
    []
    """
    return [
        number + text.lstrip().startswith("#")
        for number, text in enumerate(linecache.getlines(file), 1)
        if ON_PURPOSE.search(text)
    ]
