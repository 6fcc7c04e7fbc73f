"""A check that cannot fail is no check: spoil a copy of a chapter and strict nbval must go red."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHAPTER = Path(__file__).parent.parent / "chapters" / "02_dropout.ipynb"


def strict_nbval(path):
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", "-p", "no:cacheprovider"]
    plain = ["--override-ini", "addopts=", "--override-ini", "filterwarnings="]
    return subprocess.run(
        [*command, *plain, str(path)],
        capture_output=True,
        text=True,
        cwd=path.parent,
        env={k: v for k, v in os.environ.items() if k != "MPLBACKEND"} | {"OMP_NUM_THREADS": "1"},
    )


def copy_up_to(cell_name, folder):
    """A short copy: everything up to the figure or the output that is spoilt."""
    notebook = json.loads(CHAPTER.read_text())
    cells = notebook["cells"]
    last = next(i for i, cell in enumerate(cells) if cell_name in json.dumps(cell))
    notebook["cells"] = cells[: last + 1]
    path = folder / "copy.ipynb"
    path.write_text(json.dumps(notebook))
    return path, notebook


def test_an_untouched_copy_passes(tmp_path):
    path, _ = copy_up_to("dropped-count", tmp_path)
    result = strict_nbval(path)
    assert result.returncode == 0, result.stdout


def test_a_changed_digit_fails(tmp_path):
    path, notebook = copy_up_to("values [0.0, 1.3333]", tmp_path)
    spoilt = json.dumps(notebook).replace("values [0.0, 1.3333]", "values [0.0, 1.3334]")
    assert spoilt != json.dumps(notebook)
    path.write_text(spoilt)
    result = strict_nbval(path)
    assert result.returncode == 1
    assert "1 failed" in result.stdout and "Cell outputs differ" in result.stdout


@pytest.mark.parametrize("amount", [0.1, 30.0])
def test_a_moved_point_of_a_figure_fails(tmp_path, amount):
    path, notebook = copy_up_to("dropped-count", tmp_path)
    image = notebook["cells"][-1]["outputs"][0]["data"]
    svg = "".join(image["image/svg+xml"])
    # A dot of the binomial distribution is placed by x and y.
    moved, count = re.subn(
        r'(<use xlink:href="#\w+" x="[\d.]+" y=")([\d.]+)',
        lambda found: f"{found[1]}{float(found[2]) + amount}",
        svg,
        count=1,
    )
    assert count == 1
    image["image/svg+xml"] = moved
    path.write_text(json.dumps(notebook))
    result = strict_nbval(path)
    assert result.returncode == 1
    assert "1 failed" in result.stdout and "Cell outputs differ" in result.stdout
