"""`make assignments` and `make grade`."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

import nbformat
from set_up import pinned

from .assignment import ASSIGNMENTS, Assignment, all_names
from .box import Limits
from .folder import Folder
from .results import BOOK

ROOT = Path(__file__).parent.parent.parent
OUTPUT = ROOT / "_build" / "assignments"
NEEDED = ("torch", "numpy", "scikit-learn", "scipy", "matplotlib", "jupyterlab")


def hand_out(name: str, variant: int, to: Path = OUTPUT) -> Path:
    """Write one assignment for students, as a zip, and for nbgrader, as a course's source."""
    assignment = Assignment.load(name, variant)
    source = to / "source" / name / f"{name}.ipynb"
    release = to / "release" / name / f"{name}.ipynb"
    for path, notebook in (
        (source, assignment.notebook),
        (release, assignment.for_students()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)
    packed = to / f"{name}-variant{variant}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(release, f"{name}/{name}.ipynb")
        listed = "\n".join(map(pinned, NEEDED)) + "\n"
        archive.writestr(f"{name}/requirements.txt", listed)
        archive.write(ASSIGNMENTS / "for_students.txt", f"{name}/README.txt")
    return packed


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="grading", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    out = commands.add_parser("assignments", help="write what students get")
    out.add_argument("names", nargs="*", help="which; all if left out")
    out.add_argument("--variant", type=int, default=1)
    back = commands.add_parser("grade", help="grade a folder of submissions")
    back.add_argument("name")
    back.add_argument("folder", type=Path)
    back.add_argument("--variant", type=int, default=1)
    back.add_argument("--seconds", type=float, default=Limits.seconds)
    back.add_argument("--book", default=BOOK, help="where the book is published")
    asked = parser.parse_args()
    try:
        if asked.command == "assignments":
            for name in asked.names or all_names():
                print(f"Wrote {hand_out(name, asked.variant)}")
        else:
            limits = Limits(seconds=asked.seconds)
            output = Folder(asked.name, asked.variant, asked.folder, limits, asked.book).grade()
            print(f"Feedback pages and tables are in {output}")
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
