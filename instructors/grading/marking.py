"""Points for answers. Nothing of a submission runs in this process."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from boxed.plain import from_plain
from nbformat import NotebookNode

from .assignment import Assignment, Task
from .box import Limits, box
from .look_at import look_at
from .submissions import printable

Given = Mapping[str, Callable[[Mapping[str, Any]], Any]]
Marks = list[tuple[str, float, Callable[[Mapping[str, Any]], bool], str]]

BOXED = Path(__file__).parent.parent / "boxed"
MOST_LINES, MOST_REMARKS, LONGEST_REMARK = 2000, 20, 100
MOST_TEXT = 24_000_000
"""Most bytes of answers that are read."""


@dataclass
class Mark:
    """One thing that was looked at: in words, what it is worth, and whether it was right."""

    what: str
    points: float
    right: bool
    read: str


@dataclass
class Graded:
    """What came of one submission.

    Attributes
    ----------
    points, out_of
        Earned, and to be had.
    tasks
        The marks of each task.
    remarks
        For the student: what stopped the notebook, and what its cells raised.
    look_at
        For the one who grades: what stands in the notebook and no assignment needs.
    once_more
        Whether it was stopped because its time was over, or never began, which a crowded machine
        can cause.
    """

    points: float
    out_of: float
    tasks: dict[str, list[Mark]]
    remarks: list[str] = field(default_factory=list)
    look_at: list[str] = field(default_factory=list)
    once_more: bool = False

    def to_json(self) -> str:
        """As text, the same for the same submission."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Graded:
        """The opposite of `to_json`."""
        held = json.loads(text)
        held["tasks"] = {
            name: [Mark(**mark) for mark in marks] for name, marks in held["tasks"].items()
        }
        return cls(**held)


def grade(assignment: Assignment, submission: NotebookNode, limits: Limits) -> Graded:
    """Run a submission in a box and mark what it answers.

    Parameters
    ----------
    assignment
        With the variant that was handed out.
    submission
        The student's notebook.
    limits
        For the whole submission, and for one cell.

    Returns
    -------
    Graded
        Points, marks and remarks; a submission that could not be run to the end has what it
        earned before.
    """
    cells = assignment.submitted_cells(submission)
    records, remarks, once_more = _ask(assignment, cells, limits)
    answers: dict[str, dict[str, Any]] = {task.name: {} for task in assignment.tasks}
    for record in records:
        cell, task = record.get("cell"), record.get("task")
        if type(cell) is int and 1 < cell <= len(cells) and len(remarks) < MOST_REMARKS:
            error = printable(str(record.get("error")))[:LONGEST_REMARK]
            remarks.append(f"Code cell {cell - 1} raised {error}")
        if isinstance(task, str) and task in answers and "answer" in record:
            try:
                answers[task][str(record.get("name"))] = from_plain(record["answer"])
            except ValueError:
                continue
    tasks = {task.name: mark(assignment, task, answers[task.name]) for task in assignment.tasks}
    points = sum(mark.points for marks in tasks.values() for mark in marks if mark.right)
    found = look_at(cells[1:], assignment.shortcuts)
    return Graded(round(points, 2), assignment.points, tasks, remarks, found, once_more)


def not_graded(assignment: Assignment, reason: str, once_more: bool = False) -> Graded:
    """For a submission that could not be read, or not in time."""
    tasks = {task.name: mark(assignment, task, {}) for task in assignment.tasks}
    return Graded(0.0, assignment.points, tasks, [reason], once_more=once_more)


def answers_to(given: Given, names: Mapping[str, Any]) -> dict[str, Any]:
    """What the functions under these names answer; a question that raises has no answer."""
    answers: dict[str, Any] = {}
    for question, ask in given.items():
        with contextlib.suppress(Exception):
            torch.manual_seed(0)
            answers[question] = ask(names)
    return answers


def points_for(given: Given, marks: Marks, names: Mapping[str, Any]) -> float:
    """The same in a single process: the last line of a cell with points, for plain nbgrader."""
    answers = answers_to(given, names)
    return sum(points for _, points, is_right, _ in marks if _holds(is_right, answers))


def _ask(
    assignment: Assignment, cells: list[str], limits: Limits
) -> tuple[list[dict[str, Any]], list[str], bool]:
    """Run the cells and put the questions: what was written, remarks, whether to run it again."""
    job = {"cells": cells, "seconds_a_cell": limits.seconds_a_cell}
    asked = [
        {"name": task.name, "code": f"{assignment.set_up}\n{task.questions}"}
        for task in assignment.tasks
    ]
    with box(limits) as boxed:
        boxed.start([sys.executable, "-m", "boxed.inside"], BOXED)
        boxed.say(json.dumps(job))
        boxed.say(json.dumps(asked))
        ended = boxed.end()
        written = boxed.read("answers.jsonl", MOST_TEXT)
    records = []
    for line in written.splitlines()[:MOST_LINES]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    remarks = []
    if ended.limit:
        remarks.append(f"The notebook was stopped: {ended.limit}. What it had answered counts.")
    elif not any("done" in record for record in records):
        remarks.append(
            f"The notebook ended by itself before all questions were put (exit status "
            f"{ended.status}): a crash, or a cell that ends Python. What it had answered counts."
        )
    once_more = (
        ended.too_slow
        or not any("began" in record for record in records)
        or any("TooLong" in str(record.get("error")) for record in records)
    )
    return records, remarks, once_more


def mark(assignment: Assignment, task: Task, answers: Mapping[str, Any]) -> list[Mark]:
    """What the answers to a task are worth."""
    space: dict[str, Any] = {"__name__": "marks"}
    with torch.random.fork_rng(devices=[]):
        exec(f"{assignment.set_up}\n{task.judgements}", space)
        return [
            Mark(what, points, _holds(is_right, answers), read)
            for what, points, is_right, read in space["marks"]
        ]


def _holds(is_right: Callable[[Mapping[str, Any]], bool], answers: Mapping[str, Any]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(is_right(answers))
        except Exception:
            return False
