"""The grading of each assignment is fair: to every right answer, and to typical wrong ones."""

import importlib.util

import nbformat
import pytest
from boxed.plain import from_plain, to_plain
from grading.assignment import ASSIGNMENTS, Assignment, all_names
from grading.marking import answers_to, mark

NAMES = all_names()
each_assignment = pytest.mark.parametrize("name", NAMES)


def answers_of(name):
    spec = importlib.util.spec_from_file_location("answers", ASSIGNMENTS / name / "answers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def points(assignment, notebook):
    """As `grade`, in this process: the answers here are ours. Points for each task."""
    space = {}
    for cell in assignment.submitted_cells(notebook):
        try:
            exec(cell, space)
        except Exception:
            continue
    given = {}
    for task in assignment.tasks:
        names = {}
        exec(f"{assignment.set_up}\n{task.questions}", names)
        answers = answers_to(names["given"], space)
        marks = mark(assignment, task, from_plain(to_plain(answers)))
        given[task.name] = sum(one.points for one in marks if one.right)
    return given


def full(assignment):
    return {task.name: task.points for task in assignment.tasks}


def reference(assignment):
    """The source itself, as if a student had handed it in."""
    return assignment.notebook


def cases():
    for name in NAMES:
        for variant in Assignment.load(name).about["variants"]:
            yield pytest.param(name, int(variant), id=f"{name}-{variant}")


@pytest.mark.parametrize(("name", "variant"), list(cases()))
def test_the_reference_gets_full_marks_and_an_empty_notebook_none(name, variant):
    assignment = Assignment.load(name, variant)
    assert points(assignment, reference(assignment)) == full(assignment)
    empty = points(assignment, assignment.for_students())
    assert sum(empty.values()) == 0, empty
    nothing = points(assignment, nbformat.v4.new_notebook())
    assert sum(nothing.values()) == 0, nothing


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in NAMES for kind in answers_of(name).RIGHT]
)
def test_other_right_answers_get_full_marks(name, kind):
    assignment = Assignment.load(name)
    got = points(assignment, assignment.answered(answers_of(name).RIGHT[kind]))
    assert got == full(assignment)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in NAMES for kind in answers_of(name).WRONG]
)
def test_a_typical_mistake_loses_what_it_should(name, kind):
    assignment = Assignment.load(name)
    answers, loses = answers_of(name).WRONG[kind]
    first = next(iter(answers_of(name).RIGHT.values()))
    got = points(assignment, assignment.answered({**first, **answers}))
    lost = {task: whole - got[task] for task, whole in full(assignment).items()}
    assert {task: part for task, part in lost.items() if part} == loses


@each_assignment
def test_an_answer_to_the_public_checks_alone_loses(name):
    assignment = Assignment.load(name)
    got = points(assignment, assignment.answered(answers_of(name).HARD_CODED))
    assert sum(got.values()) <= 0.5 * assignment.points
    # And it does pass what students see.
    space = {}
    for cell in assignment.answered(answers_of(name).HARD_CODED).cells:
        if cell.cell_type == "code":
            exec(cell.source, space)


@each_assignment
def test_there_are_enough_answers_and_the_description_is_whole(name):
    answers, about = answers_of(name), Assignment.load(name).about
    assert len(answers.RIGHT) >= 3 and len(answers.WRONG) >= 5
    assert 30 <= about["minutes"] <= 90 and len(about["variants"]) >= 3
    assert about["goals"] and about["prerequisites"] and about["teaches"]
    assert list(about["tasks"]) == [task.name for task in Assignment.load(name).tasks]
    for chapter in about["chapters"]:
        assert (ASSIGNMENTS.parent.parent / "chapters" / f"{chapter}.ipynb").exists()


@each_assignment
def test_points_add_up(name):
    assignment = Assignment.load(name)
    for task in assignment.tasks:
        marks = mark(assignment, task, {})
        assert sum(one.points for one in marks) == pytest.approx(task.points)
        assert not any(one.right for one in marks)


@each_assignment
def test_what_students_get_holds_neither_solutions_nor_hidden_tests(name):
    assignment = Assignment.load(name)
    text = nbformat.writes(assignment.for_students())
    for secret in ("SOLUTION", "HIDDEN", "points_for", "marks = ", "given = ", "expected"):
        assert secret not in text
    for task in assignment.tasks:
        assert "marks" not in task.questions and "expected" not in task.questions
