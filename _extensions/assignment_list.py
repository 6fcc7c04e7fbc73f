"""The directive `assignment-list`: the assignments, from their descriptions."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parent.parent
for folder in ("instructors", "tools"):
    if str(ROOT / folder) not in sys.path:
        sys.path.insert(0, str(ROOT / folder))

from grading.assignment import Assignment, all_names  # noqa: E402


class AssignmentList(SphinxDirective):
    """A table, and what each assignment wants and teaches."""

    def run(self) -> list[nodes.Node]:
        assignments = [Assignment.load(name) for name in all_names()]
        lines = ["| assignment | part | chapters | minutes | points |", "|---|---|---|--:|--:|"]
        for assignment in assignments:
            about = assignment.about
            chapters = ", ".join(
                f"[{int(name[:2])}](../chapters/{name}.ipynb)" for name in about["chapters"]
            )
            lines.append(
                f"| `{assignment.name}` | {about['part']} | {chapters} | {about['minutes']} "
                f"| {assignment.points:g} |"
            )
        lines.append("")
        for assignment in assignments:
            about = assignment.about
            lines += [f"**{about['title']}.** Goals: {'; '.join(about['goals'])}. What a wrong "
                      f"answer teaches: {'; '.join(about['teaches'])}.", ""]  # fmt: skip
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("assignment-list", AssignmentList)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
