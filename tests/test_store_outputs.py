"""Storing the outputs of a notebook: as a fresh run gives them, and nothing of this machine."""

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from store_outputs import METADATA, store_outputs


def written(folder, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"here": "of this machine"})
    path = folder / "notebook.ipynb"
    nbformat.write(notebook, path)
    return path


def test_outputs_are_stored_in_order_and_metadata_is_the_books(tmp_path):
    path = written(tmp_path, "print('a')\nprint('b')", "1 + 1")
    store_outputs(path)
    notebook = nbformat.read(path, as_version=4)
    first, second = notebook.cells
    assert [output.text for output in first.outputs] == ["a\nb\n"]
    assert second.outputs[0].data["text/plain"] == "2"
    assert [cell.execution_count for cell in notebook.cells] == [1, 2]
    assert dict(notebook.metadata) == METADATA and "execution" not in first.metadata
    before = path.read_text()
    store_outputs(path)
    assert path.read_text() == before


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path):
    path = written(tmp_path, "1 / 0")
    before = path.read_text()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        store_outputs(path)
    assert path.read_text() == before
