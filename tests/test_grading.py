"""Strangers' notebooks: each is graded or reported with a reason, and harms nobody."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nbformat
import psutil
import pytest
import torch
from boxed.plain import from_plain, to_plain
from grading.__main__ import hand_out
from grading.apart import Lost, apart
from grading.assignment import Assignment
from grading.box import Limits, box, isolation
from grading.folder import Folder
from grading.look_at import look_at
from grading.marking import grade
from grading.submissions import Unreadable, find, read
from test_assignments import answers_of

ROOT = Path(__file__).parent.parent
NAME = "dropout_from_scratch"
needs_a_box = pytest.mark.skipif(
    os.name == "nt" or (os.getuid() == 0 and shutil.which("bwrap") is None),
    reason="root grades with bubblewrap only",
)
LIMITS = Limits(seconds=25, seconds_a_cell=2)


@pytest.fixture(scope="module")
def assignment():
    return Assignment.load(NAME)


def with_cells(assignment, *sources, right=True):
    """A notebook that is right, or empty, with more cells at its end."""
    notebook = (
        assignment.answered(answers_of(NAME).RIGHT["bernoulli"])
        if right
        else assignment.for_students()
    )
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in sources]
    return notebook


FORGED = """
import json, os
with open("answers.jsonl", "a") as file:
    for task in ("test-drop", "test-layer", "test-channels"):
        for name in ("train", "again", "eval", "signed", "input", "none", "all"):
            file.write(json.dumps({"task": task, "name": name, "answer": 1.0}) + "\\n")
    file.write(json.dumps({"done": True}) + "\\n")
os._exit(0)
"""
HOSTILE = {
    "an endless loop": ("while True:\n    pass", 10, "stopped after 2 s"),
    "a loop that catches": (
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n"
        "        pass",
        0,
        "it ran for more than 25 seconds",
    ),
    "the interpreter crashes": ("import os\nos.abort()", 0, "ended by itself"),
    "it ends Python": ("import os\nos._exit(0)", 0, "ended by itself"),
    "it raises SystemExit": ("import sys\nsys.exit()", 10, "SystemExit"),
    "memory without end": ("x = []\nwhile True:\n    x.append(bytearray(10**8))", None, ""),
    "a fork bomb": ("import os\nwhile True:\n    os.fork()", 0, "stopped"),
    "a gigabyte of output": ("for _ in range(10**6):\n    print('x' * 1000)", 10, ""),
    "a gigabyte in a file": (
        "with open('big', 'wb') as file:\n    for _ in range(1000):\n        file.write(bytes(10**6))",
        10,
        "File too large",
    ),
    "forged answers": (FORGED, 0, ""),
    "a folder where the answers go": (
        "import os\nos.remove('answers.jsonl')\nos.mkdir('answers.jsonl')",
        0,
        "",
    ),
    "lines that are no answers": (
        "import os\n"
        "with open('answers.jsonl', 'a') as file:\n"
        "    file.write('{\"task\": []}\\n{\"cell\": \"x\"}\\n' + '9' * 5000 + '\\n')",
        10,
        "",
    ),
    "files that come and go": (
        "import os\nfor i in range(20000):\n    open(f'f{i}', 'w').close()\n    os.remove(f'f{i}')",
        10,
        "",
    ),
    "folders without end": (
        "import os\nfor _ in range(300):\n    os.mkdir('d')\n    os.chdir('d')\n"
        "import time\ntime.sleep(1)",
        0,
        "stopped",
    ),
    "half a letter": ("raise ValueError(chr(0xd800) + chr(27) + '[2K')", 10, "ValueError"),
    "a forged result on the screen": ("print('10 of 10')\nimport os\nos._exit(0)", 0, "ended by"),
}


@needs_a_box
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_cell(assignment, kind):
    source, points, said = HOSTILE[kind]
    right = points != 0
    graded = grade(assignment, with_cells(assignment, source, right=right), LIMITS)
    assert points is None or graded.points == points, graded
    assert said in " ".join(graded.remarks)


@needs_a_box
def test_nothing_of_a_fork_bomb_is_left(assignment):
    grade(
        assignment,
        with_cells(
            assignment,
            "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)  # stays-behind",
        ),
        LIMITS,
    )
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert "boxed.inside" not in running


@needs_a_box
def test_checks_that_are_patched_away_do_not_help(assignment):
    patched = """
import torch, builtins
torch.equal = torch.allclose = lambda *a, **k: True
builtins.all = builtins.any = lambda *a: True
torch.Tensor.__eq__ = lambda self, other: torch.ones(self.shape, dtype=torch.bool)
"""
    notebook = with_cells(assignment, patched, right=False)
    assert grade(assignment, notebook, LIMITS).points == 0


@needs_a_box
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_the_box_hides_the_rest(assignment, tmp_path):
    (tmp_path / "neighbour.txt").write_text("as it was")
    look = f"""
import os, urllib.request
seen = [os.path.exists(path) for path in ({str(ROOT / "instructors")!r}, {str(tmp_path)!r})]
assert not any(seen), seen
try:
    urllib.request.urlopen("http://1.1.1.1", timeout=2)
except OSError:
    raise RuntimeError("neither seen nor reached")
"""
    graded = grade(assignment, with_cells(assignment, look), LIMITS)
    assert "neither seen nor reached" in " ".join(graded.remarks) and graded.points == 10
    assert "no network" in isolation()


@needs_a_box
def test_an_edited_test_and_a_deleted_cell(assignment):
    edited = with_cells(assignment)
    for cell in edited.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            cell.source = "assert True"
    assert grade(assignment, edited, LIMITS).points == 10
    edited.cells = [
        cell
        for cell in edited.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") != "channels"
    ]
    assert grade(assignment, edited, LIMITS).points == 7


def test_answers_cross_as_text_only():
    values = {"t": torch.randn(3, 2), "b": torch.tensor([True]), "n": [1, 2.5, None, "x"]}
    back = from_plain(json.loads(json.dumps(to_plain(values))))
    assert torch.equal(back["t"], values["t"]) and back["n"] == values["n"]
    assert to_plain(print) == {"kind": "other", "type": "builtin_function_or_method"}
    with pytest.raises(ValueError, match="not an answer"):
        from_plain({"kind": "tensor", "data": "!!", "held": "object", "shape": [1], "dtype": "x"})


@pytest.fixture
def exported(tmp_path, assignment):
    """A folder as platforms export it: thirty students' worth of kinds, in small."""
    folder = tmp_path / "handed in"
    folder.mkdir()
    text = nbformat.writes(with_cells(assignment))
    moodle = folder / "Ann Lee_123_assignsubmission_file_"
    moodle.mkdir()
    (moodle / "renamed.ipynb").write_text(text)
    (folder / "doejohn_LATE_456_789_homework-1.ipynb").write_text(text)
    (folder / "badjson_457_790_homework.ipynb").write_text("not JSON")
    (folder / "noteless_458_791_homework.pdf").write_bytes(b"%PDF")
    scripted = with_cells(assignment, 'raise ValueError("<script>alert(1)</script>" * 10**4)')
    (folder / "=cmd()_459_792_homework.ipynb").write_text(nbformat.writes(scripted))
    return folder


@needs_a_box
def test_a_folder_is_graded_and_graded_again(exported, capsys):
    output = Folder(NAME, 1, exported, LIMITS, "https://book.example/").grade()
    said = capsys.readouterr().out
    assert "Ann Lee: 10 of 10" in said and "badjson: 0 of 10" in said
    first = {path.name: path.read_text() for path in output.glob("*.csv")}
    with (output / "canvas.csv").open() as file:
        canvas = {row["ID"]: row for row in csv.DictReader(file)}
    assert canvas["456"]["Dropout from scratch"] == "10"
    with (output / "moodle.csv").open() as file:
        (moodle,) = csv.DictReader(file)
    assert moodle["Identifier"] == "Participant 123" and moodle["Grade"] == "10"
    assert "Last modified (grade)" in moodle
    assert list(canvas["456"])[:3] == ["Student", "ID", "Section"]
    with zipfile.ZipFile(output / "moodle-feedback.zip") as archive:
        (page,) = archive.namelist()
        assert "10 of 10" in archive.read(page).decode()
    assert page == "Ann Lee_123_assignsubmission_file/feedback.html"
    assert canvas["459"]["Student"] == "'=cmd()"
    page = next((output / "feedback").glob("*459*")).read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and len(page) < 20_000
    reasons = (output / "all.csv").read_text()
    assert "not a notebook" in reasons and "No notebook was handed in" in reasons

    Folder(NAME, 1, exported, LIMITS, "https://book.example/").grade()
    assert "Ann Lee: 10 of 10  as before" in capsys.readouterr().out
    assert {path.name: path.read_text() for path in output.glob("*.csv")} == first


@needs_a_box
def test_one_that_cannot_be_graded_does_not_stop_the_others(exported, monkeypatch, capsys):
    def breaks(function, name, variant, submission, limits, seconds):
        if submission.number == "459":
            raise Lost("boom")
        return apart(function, name, variant, submission, limits, seconds=seconds)

    monkeypatch.setattr("grading.folder.apart", breaks)
    output = Folder(NAME, 1, exported, LIMITS, "https://book.example/").grade()
    assert "Ann Lee: 10 of 10" in capsys.readouterr().out
    assert "look at it by hand: boom" in (output / "all.csv").read_text()
    assert not list((output / "results").glob("*459*"))
    assert "boom" in next((output / "feedback").glob("*459*")).read_text()


@pytest.mark.parametrize("held", [None, [], "x", {"grade_id": ["drop"]}, {"grade_id": {}}])
def test_metadata_of_any_kind_is_read(tmp_path, assignment, held):
    notebook = with_cells(assignment)
    text = json.loads(nbformat.writes(notebook))
    for cell in text["cells"]:
        cell["metadata"]["nbgrader"] = held
    (tmp_path / "eve.ipynb").write_text(json.dumps(text))
    (submission,) = find(tmp_path)
    try:
        cells = assignment.submitted_cells(read(submission, assignment))
    except Unreadable:
        return
    assert len(cells) > 1


def _sleeps():
    subprocess.Popen(["sleep", "77"])
    time.sleep(60)


def test_what_takes_too_long_or_too_much_ends_apart():
    started = time.monotonic()
    with pytest.raises(Lost, match="it took more than 3 seconds"):
        apart(_sleeps, seconds=3)
    assert time.monotonic() - started < 20
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "77"]]
    with pytest.raises(Lost, match="MemoryError"):
        apart(bytearray, 3 * 1024**3, seconds=60)
    with pytest.raises(Lost, match="exit status 3"):
        apart(os._exit, 3, seconds=60)
    assert apart(divmod, 7, 2, seconds=60) == (3, 1)


def test_a_notebook_of_many_megabytes_is_read_at_once(tmp_path, assignment):
    cell = {"cell_type": "code", "source": "", "metadata": {}, "outputs": [], "id": "same"}
    text = {"cells": [cell] * 100_000, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "eve.ipynb").write_text(json.dumps(text))
    (submission,) = find(tmp_path)
    started = time.monotonic()
    assert len(read(submission, assignment).cells) == 100_000
    assert time.monotonic() - started < 30


@needs_a_box
def test_memory_behind_nameless_files_is_counted(assignment):
    hoard = """
import os, time
held = [os.memfd_create(f"m{i}") for i in range(40)]
for file in held:
    os.write(file, bytes(30_000_000))
time.sleep(2)
"""
    limits = Limits(seconds=25, seconds_a_cell=10, memory=1024**3)
    graded = grade(assignment, with_cells(assignment, hoard), limits)
    assert "more than 1024 MB of memory" in " ".join(graded.remarks)


@needs_a_box
def test_shared_memory_that_is_not_resident_is_counted(assignment):
    hoard = """
import mmap, time
held = [mmap.mmap(-1, 2**28) for _ in range(8)]
for memory in held:
    for at in range(0, len(memory), 2**25):
        memory[at:at + 2**25] = bytes(2**25)
        memory.madvise(mmap.MADV_DONTNEED)
time.sleep(2)
"""
    limits = Limits(seconds=25, seconds_a_cell=10, memory=1024**3)
    graded = grade(assignment, with_cells(assignment, hoard), limits)
    assert "more than 1024 MB of memory" in " ".join(graded.remarks)


@needs_a_box
def test_a_page_of_a_hoard_does_not_stand_for_all_of_it(assignment):
    """Nameless memory of which a single page is mapped."""
    hoard = """
import mmap, os, time
held = []
for i in range(40):
    file = os.memfd_create(f"m{i}")
    os.write(file, bytes(30_000_000))
    held.append((file, mmap.mmap(file, 4096)))
time.sleep(2)
"""
    limits = Limits(seconds=25, seconds_a_cell=10, memory=1024**3)
    graded = grade(assignment, with_cells(assignment, hoard), limits)
    assert "more than 1024 MB of memory" in " ".join(graded.remarks)


@needs_a_box
@pytest.mark.skipif(os.getuid() != 0, reason="only root has users to give")
def test_processes_that_grade_give_no_user_twice():
    users = [apart(_user_of_a_box, seconds=60) for _ in range(2)]
    assert len({*users, _user_of_a_box(), _user_of_a_box()}) == 4


def _user_of_a_box():
    with box(LIMITS) as boxed:
        return boxed.user


@needs_a_box
def test_folders_nested_deeper_than_python_recurses_are_removed():
    nest = "import os\nfor _ in range(2000):\n    os.mkdir('d')\n    os.chdir('d')"
    with box(LIMITS) as boxed:
        subprocess.run([sys.executable, "-c", nest], cwd=boxed.folder, check=True)
    assert not boxed.folder.exists()


@needs_a_box
@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_the_box_mounts_nothing(assignment):
    mount = """
import subprocess
tried = subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/tmp"])
raise RuntimeError(f"mounting ended with {tried.returncode}")
"""
    graded = grade(assignment, with_cells(assignment, mount), LIMITS)
    said = " ".join(graded.remarks)
    assert "mounting ended with" in said and "mounting ended with 0" not in said


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("Eve_7_assignsubmission_file_x_8_assignsubmission_file_w.ipynb", ("Eve", "Moodle", "7")),
        ("eve_7_9_x_8_assignsubmission_file_w.ipynb", ("eve", "Canvas", "7")),
        ("Eve Lee_7_assignsubmission_onlinetext_1_2_w.ipynb", ("Eve Lee", "Moodle", "7")),
    ],
)
def test_a_file_name_does_not_lend_another_name(tmp_path, name, whose):
    (tmp_path / name).write_text("{}")
    (submission,) = find(tmp_path)
    assert (submission.student, submission.platform, submission.number) == whose


def test_names_that_are_alike_have_pages_of_their_own(tmp_path):
    for name in ("A-Lee", "A Lee", "a lee", "\u674e", "\u738b"):
        (tmp_path / f"{name}.ipynb").write_text("{}")
    keys = {submission.key for submission in find(tmp_path)}
    assert len(keys) == 5 and all(len(os.fsencode(key)) < 200 for key in keys)


def test_of_alike_names_in_a_plain_folder_each_is_graded(tmp_path):
    (tmp_path / "anna").mkdir()
    for name in ("anna/work.ipynb", "anna.ipynb", "anna.IPYNB"):
        (tmp_path / name).write_text("{}")
    (tmp_path / ".._103_1_work.ipynb").write_text("{}")
    found = find(tmp_path)
    assert sorted(len(submission.files) for submission in found) == [1, 1, 1, 1]
    assert {submission.student for submission in found} == {"anna", "anna (2)", "anna (3)", ".."}


def test_a_large_notebook_hides_no_small_one(tmp_path, assignment):
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "a.ipynb").write_bytes(b" " * 20_000_001)
    (tmp_path / "anna" / "b.ipynb").write_text(nbformat.writes(with_cells(assignment)))
    (submission,) = find(tmp_path)
    assert read(submission, assignment).cells


def test_a_copied_cell_makes_no_notebook_more_alike(tmp_path, assignment):
    honest, copied = with_cells(assignment), with_cells(assignment)
    copied.cells = [nbformat.from_dict(copied.cells[1] | {"id": str(place)}) for place in range(50)]
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "a.ipynb").write_text(nbformat.writes(copied))
    (tmp_path / "anna" / "b.ipynb").write_text(nbformat.writes(honest))
    (submission,) = find(tmp_path)
    assert len(read(submission, assignment).cells) == len(honest.cells)


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("from torch.nn.functional import dropout2d as f", ["dropout2d"]),
        ("import torch.nn as layers\nlayers.Dropout(0.5)", ["Dropout"]),
        ("torch.dropout(x, 0.5, True)", ["dropout"]),
        ('getattr(torch.nn.functional, "dropout")', ["dropout"]),
        ("exec(bytes.fromhex('00'))", ["fromhex", "exec"]),
        ("import sys\nsys.stdin.readline()", ["stdin"]),
        ("%matplotlib inline\nmodel.eval()\nself.dropout = 1\ndropout = 0.5", []),
    ],
)
def test_what_a_person_should_look_at_is_named_however_it_is_imported(code, named):
    assert look_at([code], ["dropout"]) == named


def test_a_name_in_another_encoding_is_written_somehow(tmp_path, assignment):
    text = nbformat.writes(with_cells(assignment)).encode()
    with open(os.fsencode(tmp_path) + b"/J\xfcrgen_5_6_work.ipynb", "wb") as file:
        file.write(text)
    (submission,) = find(tmp_path)
    assert submission.student.encode().startswith(b"J") and submission.number == "5"
    assert read(submission, assignment).cells


def test_links_out_of_a_submission_are_not_followed(tmp_path, assignment):
    secret = tmp_path / "secret.ipynb"
    secret.write_text(nbformat.writes(assignment.notebook))
    folder = tmp_path / "in" / "eve"
    folder.mkdir(parents=True)
    (folder / "work.ipynb").symlink_to(secret)
    (submission,) = find(tmp_path / "in")
    with pytest.raises(Unreadable, match="No notebook was handed in"):
        read(submission, assignment)


def test_a_missing_folder_and_unknown_names_are_clear(tmp_path):
    with pytest.raises(NotADirectoryError, match="submissions: .* is not a folder"):
        find(tmp_path / "none")
    with pytest.raises(ValueError, match="assignment: no 'x'; there are .*dropout_from_scratch"):
        Assignment.load("x")
    with pytest.raises(ValueError, match="variant: dropout_from_scratch has 1, 2, 3, not 9"):
        Assignment.load(NAME, 9)


def test_the_zip_runs_without_the_book_and_nbgrader_accepts_the_source(tmp_path):
    packed = hand_out(NAME, 2, tmp_path)
    shutil.unpack_archive(packed, tmp_path / "student")
    notebook = nbformat.read(tmp_path / "student" / NAME / f"{NAME}.ipynb", as_version=4)
    numbers = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    assert numbers.source.startswith("P = 0.2")
    assert "BEGIN" not in nbformat.writes(notebook)
    nbgrader = Path(sys.executable).parent / "nbgrader"
    made = subprocess.run(
        [nbgrader, "generate_assignment", NAME, "--create", f"--course-dir={tmp_path / 'course'}"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "PATH": f"{nbgrader.parent}:{os.environ['PATH']}",
        },
        cwd=_course(tmp_path),
    )
    assert made.returncode == 0, made.stderr
    released = (tmp_path / "course" / "release" / NAME / f"{NAME}.ipynb").read_text()
    assert "HIDDEN" not in released and "points_for" not in released


def _course(tmp_path):
    shutil.copytree(tmp_path / "source", tmp_path / "course" / "source")
    return tmp_path / "course"
