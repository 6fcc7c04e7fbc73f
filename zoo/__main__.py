"""Audit every public model of the zoo again: what `make zoo` calls, in an environment of its own.

What is done is kept: after an interruption the same command goes on. ``--only`` names models by a
pattern such as ``timm/levit*`` and audits these again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from zoo.models import all_entries
from zoo.results import Journal, unjudged, write_page_data
from zoo.runner import Limits, run

ROOT = Path(__file__).parent.parent
JOURNAL = ROOT / ".venv-zoo" / "zoo.jsonl"


def main() -> int:
    """Run what is not done, write the results, and list the findings nobody has looked into."""
    parser = argparse.ArgumentParser(prog="python -m zoo", description=__doc__)
    parser.add_argument("--only", default="*", help="pattern of PACKAGE/MODEL to audit again")
    parser.add_argument("--seconds", type=float, default=60, help="for each model")
    parser.add_argument("--megabytes", type=int, default=6000, help="for each model")
    arguments = parser.parse_args()
    journal = Journal(JOURNAL)
    if arguments.only != "*":
        journal.forget(arguments.only)
    entries = list(all_entries())
    run(
        entries,
        journal,
        Limits(arguments.seconds, arguments.megabytes),
        only=arguments.only,
    )
    results = write_page_data(Journal(JOURNAL), entries)
    open_questions = unjudged(results["models"])
    print("\n" + ", ".join(f"{count} {status}" for status, count in results["counts"].items()))
    for model, finding in open_questions:
        print(f"NO VERDICT: {model}: {finding['kind']} at {finding['module'] or '(root)'}")
    return 1 if open_questions else 0


if __name__ == "__main__":
    sys.exit(main())
