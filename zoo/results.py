"""What became of the models: kept line by line while it runs, written sorted at its end."""

from __future__ import annotations

import datetime
import json
import math
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from zoo.entry import Entry
from zoo.examine import FoundInModel, Record

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "reference" / "public_models.json"
VERDICTS = Path(__file__).parent / "verdicts.toml"
REPORTS = Path(__file__).parent / "reports"
STATUSES = (
    "audited", "not built", "failed before the audit", "audit error", "over the limit", "died",
)  # fmt: skip

Class = Literal["mistake", "by design", "false alarm"]


class Journal:
    """What is done, a line of JSON each: it outlives an interruption."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [json.loads(line) for line in lines if line.endswith("}")]
        self._records: dict[tuple[str, str], Record] = {_key(record): record for record in kept}
        if len(kept) < len(lines):  # the last line was cut short
            self._write()

    def holds(self, package: str, version: str, model: str) -> bool:
        """Whether a model of this version of its package is done."""
        record = self._records.get((package, model))
        return record is not None and record["version"] == version

    def add(self, record: Record) -> None:
        """Keep what became of a model."""
        self._records[_key(record)] = record
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def forget(self, pattern: str) -> None:
        """Have the models of a pattern done again."""
        self._records = {
            key: record
            for key, record in self._records.items()
            if not fnmatchcase("/".join(key), pattern)
        }
        self._write()

    def _write(self) -> None:
        self._path.write_text("".join(json.dumps(r) + "\n" for r in self._records.values()))

    def records(self) -> list[Record]:
        """All that was read or added in this process, by package and model."""
        return [self._records[key] for key in sorted(self._records)]


def _key(record: Record) -> tuple[str, str]:
    return record["package"], record["model"]


def write_page_data(
    journal: Journal, entries: Iterable[Entry], path: Path = RESULTS
) -> dict[str, Any]:
    """Write what became of the entries for the page, one line a model, and return it."""
    wanted = {(entry.package, entry.name) for entry in entries}
    models = [_tidy(record) for record in journal.records() if _key(record) in wanted]
    count: Counter[str] = Counter(model["status"] for model in models)
    head = {
        "torch": torch.__version__.partition("+")[0],
        "python": ".".join(map(str, sys.version_info[:2])),
        "date": datetime.date.today().isoformat(),
        "counts": {status: count[status] for status in STATUSES},
    }
    lines = ",\n".join(f"  {json.dumps(model)}" for model in models)
    opening = json.dumps(head, indent=1).removesuffix("\n}")
    path.write_text(f'{opening},\n "models": [\n{lines}\n ]\n}}\n')
    return json.loads(path.read_text())


def _tidy(record: Record) -> Record:
    """In one order, and seconds so coarse that they seldom change."""
    order = list(Record.__annotations__)
    tidy = {name: record[name] for name in order if name in record}  # type: ignore[literal-required]
    tidy["seconds"] = coarse(tidy["seconds"])
    return tidy  # type: ignore[return-value]


def coarse(seconds: float) -> int:
    """Round a duration up to the next power of two.

    Examples
    --------
    >>> coarse(0.2), coarse(3.1), coarse(60)
    (1, 4, 64)
    """
    return 2 ** max(0, math.ceil(math.log2(max(seconds, 1e-9))))


class Verdict(NamedTuple):
    """What someone who read the package's source says about a class of findings.

    Attributes
    ----------
    package, models, kinds
        Which findings it is about; models are patterns.
    verdict
        What it is.
    why
        In one sentence.
    where
        File and line in the package.
    report
        The name of the report to the maintainers, for a mistake.
    """

    package: str
    models: list[str]
    kinds: list[str]
    verdict: Class
    why: str
    where: str
    report: str = ""

    def is_about(self, model: Record, finding: FoundInModel) -> bool:
        """Whether it covers a finding of a model."""
        return (
            self.package == model["package"]
            and finding["kind"] in self.kinds
            and any(fnmatchcase(model["model"], pattern) for pattern in self.models)
        )


@cache
def verdicts() -> tuple[Verdict, ...]:
    """Read ``verdicts.toml``."""
    return tuple(
        Verdict(**entry) for entry in tomllib.loads(VERDICTS.read_text()).get("finding", [])
    )


def verdict_on(model: Record, finding: FoundInModel) -> Verdict | None:
    """The first verdict that covers a finding."""
    return next((verdict for verdict in verdicts() if verdict.is_about(model, finding)), None)


def findings_of(models: Iterable[Record]) -> Iterator[tuple[Record, FoundInModel]]:
    """Every finding, with the model that it was found in."""
    for model in models:
        for finding in model.get("findings", []):
            yield model, finding


def unjudged(models: Iterable[Record]) -> list[tuple[str, FoundInModel]]:
    """Findings that no verdict covers, each with ``PACKAGE/MODEL``."""
    return [
        (f"{model['package']}/{model['model']}", finding)
        for model, finding in findings_of(models)
        if verdict_on(model, finding) is None
    ]
