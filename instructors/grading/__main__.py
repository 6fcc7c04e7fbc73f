"""`make assignments` and `make grade`."""

from __future__ import annotations

import argparse
import hashlib
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from set_up import pinned

from .assignment import ASSIGNMENTS, Assignment, all_names
from .box import Limits, isolation
from .marking import Graded, grade, not_graded
from .results import BOOK, write_page, write_tables
from .submissions import Submission, Unreadable, find, read

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


def grade_folder(name: str, variant: int, folder: Path, limits: Limits, book: str) -> Path:
    """Grade all submissions in a folder; what was graded before is not graded again."""
    assignment = Assignment.load(name, variant)
    submissions = find(folder)
    output = folder.parent / f"{folder.name}-graded"
    (output / "feedback").mkdir(parents=True, exist_ok=True)
    (output / "results").mkdir(exist_ok=True)
    print(f"{assignment.about['title']}, variant {variant}: {len(submissions)} submissions")
    print(f"Isolation: {isolation()}")
    keys = [submission.key for submission in submissions]
    if len(set(keys)) < len(keys):
        doubled = sorted({key for key in keys if keys.count(key) > 1})
        raise SystemExit(f"Two submissions under one name: {', '.join(doubled)}")

    def one(submission: Submission) -> tuple[Submission, Graded]:
        try:
            graded, kept = _graded(submission, assignment, output, limits)
            page = output / "feedback" / f"{submission.key}.html"
            write_page(page, submission, assignment, graded, book)
        except Exception as error:  # one of them must not stop the others; it is not kept
            reason = f"It could not be graded ({type(error).__name__}): look at it by hand."
            graded, kept = not_graded(assignment, reason), False
        note = "as before" if kept else "; ".join(graded.remarks)[:90]
        print(
            f"  {submission.student}: {graded.points:g} of {graded.out_of:g}  {note}",
            flush=True,
        )
        return submission, graded

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        results = list(workers.map(one, submissions))
    if results:
        for path in write_tables(output, assignment, results):
            print(f"Wrote {path}")
    return output


def _graded(
    submission: Submission, assignment: Assignment, output: Path, limits: Limits
) -> tuple[Graded, bool]:
    """The result, and whether it is that of an earlier run."""
    contents = hashlib.sha256(assignment.fingerprint.encode())
    for path in submission.files:
        contents.update(path.read_bytes())
    kept = output / "results" / f"{submission.key}-{contents.hexdigest()[:12]}.json"
    if kept.exists():
        return Graded.from_json(kept.read_text(encoding="utf-8")), True
    try:
        graded = grade(assignment, read(submission, assignment), limits)
    except Unreadable as problem:
        graded = not_graded(assignment, str(problem))
    if any("was stopped" in remark for remark in graded.remarks):
        return graded, False  # of a crowded machine, perhaps: asked again by the next run
    unfinished = kept.with_suffix(".part")
    unfinished.write_text(graded.to_json(), encoding="utf-8")
    unfinished.replace(kept)
    return graded, False


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
            output = grade_folder(asked.name, asked.variant, asked.folder, limits, asked.book)
            print(f"Feedback pages and tables are in {output}")
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
