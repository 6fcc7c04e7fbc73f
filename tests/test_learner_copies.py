"""Learners' copies: nothing given away, and nothing of theirs lost."""

import copy

import nbformat
import pytest
from exercises import BEGIN, is_exercise, solution, stub
from learner_copies import CHAPTERS, learner_copy, merged, write_copies


def cell(source, identity, *tags):
    return nbformat.v4.new_code_cell(source, id=identity, metadata={"tags": list(tags)})


@pytest.fixture
def book():
    cells = [cell("guess = 1", "a", "prediction"), cell("x = 1", "b"), cell("y", "c")]
    return learner_copy(nbformat.v4.new_notebook(cells=cells))


def sources(notebook):
    return [cell.source for cell in notebook.cells]


@pytest.mark.parametrize("path", sorted(CHAPTERS.glob("[0-9]*.ipynb")), ids=lambda p: p.stem)
def test_a_copy_shows_no_answer(path):
    chapter = nbformat.read(path, as_version=4)
    assert any(cell.get("outputs") for cell in chapter.cells)  # or clearing could not fail
    made = learner_copy(chapter)
    nbformat.validate(made)
    assert not any(cell.get("outputs") for cell in made.cells)
    code = "\n".join(cell.source for cell in made.cells if cell.cell_type == "code")
    exercises = [cell for cell in chapter.cells if is_exercise(cell)]
    assert exercises and BEGIN not in code
    for cell in exercises:
        assert stub(cell.source) in code
        folded = next(other for other in made.cells if other.id == f"{cell.id}-solution")
        assert folded.cell_type == "markdown" and folded.source.startswith("<details>")
        assert solution(cell.source) in folded.source


def test_the_solution_stands_below_the_check():
    asks = cell("### BEGIN SOLUTION\nx = 1\n### END SOLUTION", "a", "exercise")
    made = learner_copy(nbformat.v4.new_notebook(cells=[asks, cell("x", "b", "check")]))
    assert [cell.id for cell in made.cells] == ["a", "b", "a-solution"]


def test_what_the_learner_changed_and_added_stays(book):
    mine = copy.deepcopy(book)
    mine.cells[0].source = "guess = 2"
    mine.cells.insert(2, cell("my own", "m"))
    mine.cells[1]["outputs"] = [nbformat.v4.new_output("stream", text="seen")]
    newer = copy.deepcopy(book)
    newer.cells[2].source = "y, mended"
    newer.cells.append(cell("new", "n"))
    made = merged(newer, book, mine)
    assert sources(made) == ["guess = 2", "x = 1", "my own", "y, mended", "new"]
    assert made.cells[1].outputs == mine.cells[1].outputs


def test_a_cell_that_the_book_drops_goes_unless_the_learner_changed_it(book):
    shorter = copy.deepcopy(book)
    del shorter.cells[1]
    assert sources(merged(shorter, book, book)) == ["guess = 1", "y"]
    mine = copy.deepcopy(book)
    mine.cells[1].source = "x = 5"
    assert sources(merged(shorter, book, mine)) == ["guess = 1", "x = 5", "y"]


def test_called_again_it_keeps_what_was_written(tmp_path):
    first = write_copies(tmp_path)[0]
    notebook = nbformat.read(first, as_version=4)
    notebook.cells[5].source = "mine"
    nbformat.write(notebook, first)
    write_copies(tmp_path)
    assert nbformat.read(first, as_version=4).cells[5].source == "mine"
