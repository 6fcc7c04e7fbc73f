"""The directive `public-models`: what `make zoo` found, as tables that can be searched.

The figures are those of `reference/public_models.json`, the judgements those of
`zoo/verdicts.toml`; nothing is written by hand.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from zoo.examine import Record
from zoo.results import findings_of, verdict_on

ROOT = Path(__file__).parent.parent
ORDER = ("mistake", "by design")
Row = tuple[str, ...]


class PublicModels(SphinxDirective):
    """Write a summary, the findings and the packages."""

    def run(self) -> list[nodes.Node]:
        found = json.loads((ROOT / "reference" / "public_models.json").read_text("utf-8"))
        rows = list(_findings(found["models"]))
        parts = [
            _summary(found, rows),
            _table(("Package", "Models", "Kind", "What it is"), rows),
            "<p>All packages, with the models that were built of each:</p>",
            _table(("Package", "Audited", "With findings", "Models"), _packages(found["models"])),
        ]
        return [nodes.raw("", "\n".join(parts), format="html")]


def _findings(models: list[Record]) -> Iterator[Row]:
    """A row for each package, kind and judgement, with the models that it was found in."""
    grouped: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for model, finding in findings_of(models):
        verdict = verdict_on(model, finding)
        assert verdict is not None, (model["model"], finding)
        package = f"{model['package']} {model['version']}"
        report = f' (<a href="public_model_reports.html#{verdict.report}">report</a>)'
        why = f"<strong>{verdict.verdict}</strong>: {escape(verdict.why)}"
        key = (package, finding["kind"], verdict.verdict, why + report * bool(verdict.report))
        if model["model"] not in grouped[key]:
            grouped[key].append(model["model"])
    in_order = sorted(grouped.items(), key=lambda item: (ORDER.index(item[0][2]), item[0]))
    for (package, kind, _, why), names in in_order:
        yield escape(package), escape(", ".join(names)), f"<code>{escape(kind)}</code>", why


def _packages(models: list[Record]) -> Iterator[Row]:
    by_package: dict[str, list[Record]] = defaultdict(list)
    for model in models:
        if model["status"] == "audited":
            by_package[f"{model['package']} {model['version']}"].append(model)
    for package, members in sorted(by_package.items(), key=lambda item: item[0].lower()):
        names = ", ".join(sorted({model["model"] for model in members}, key=str.lower))
        with_findings = sum(bool(model["findings"]) for model in members)
        listed = f"<details><summary>which</summary>{escape(names)}</details>"
        yield escape(package), str(len(members)), str(with_findings), listed


def _summary(found: dict[str, Any], rows: list[Row]) -> str:
    counts = found["counts"]
    audited = [model for model in found["models"] if model["status"] == "audited"]
    packages = len({model["package"] for model in audited})
    with_findings = sum(bool(model["findings"]) for model in audited)
    findings = sum(len(model["findings"]) for model in audited)
    mistakes = sum("<strong>mistake" in row[3] for row in rows)
    others = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return (
        f"<p>{len(audited)} models of {packages} packages, with PyTorch {found['torch']}, on "
        f"{found['date']}: {len(audited) - with_findings} without a finding, {with_findings} with "
        f"{findings} findings. With repeats counted once these are {len(rows)}: {mistakes} "
        f"mistakes, {len(rows) - mistakes} by design. "
        f"Of all that was tried: {escape(others)} of time.</p>"
    )


def _table(head: Row, rows: Iterable[Row]) -> str:
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return (
        '<div class="pst-scrollable-table-container"><table class="survey table">'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("public-models", PublicModels)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
