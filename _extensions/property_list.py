"""The directive `property-list`: the sentences that are tested as properties, and the tests."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TESTS = str(Path(__file__).parent.parent / "tests")


class PropertyList(SphinxDirective):
    """List what `tests/properties` registers, chapter by chapter."""

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for chapter, found in groupby(_registered(), key=lambda prop: prop.chapter):
            lines += [f"**[Chapter {int(chapter[:2])}](../chapters/{chapter}.ipynb)**", ""]
            for prop in found:
                lines += [
                    f"({prop.name})=",
                    f"“… {prop.sentence.rstrip('.')}.” Tried over {prop.over}:",
                    "",
                ]
                lines += ["```python", *_body(prop.test), "```", ""]
        container = nodes.container(classes=["property-list"])
        self.state.nested_parse(StringList(lines, source="property-list"), 0, container)
        return [container]


def _registered() -> list[Any]:
    """All properties, in the order of the book."""
    if TESTS not in sys.path:
        sys.path.insert(0, TESTS)
    for path in sorted(Path(TESTS, "properties").glob("test_*.py")):
        if path.stem != "test_registered":
            importlib.import_module(f"properties.{path.stem}")
    registry = importlib.import_module("properties.registry")
    return sorted(registry.PROPERTIES.values(), key=lambda prop: prop.chapter)


def _body(test: Any) -> list[str]:
    """A test's own lines, without what registers it."""
    code = inspect.getsource(inspect.unwrap(getattr(test, "hypothesis", test).inner_test))
    return re.sub(r"\A@states\(.*?^\)\n", "", code, flags=re.DOTALL | re.MULTILINE).splitlines()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("property-list", PropertyList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
