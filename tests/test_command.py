"""`evalmode record` around programs that nobody edits, as a shell runs it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser

import pytest

COMMON = """
import sys, torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout())
        self.head = nn.Linear(16, 4)
    def forward(self, x):
        return self.head(self.body(x))
X, Y = torch.randn(64, 8), torch.arange(64) % 4
criterion = nn.CrossEntropyLoss()
def train(model, optimizer, count=4):
    for i in range(count):
        optimizer.zero_grad()
        criterion(model(X), Y).backward()
        optimizer.step()
def look(model, count=4):
    with torch.no_grad():
        return [model(X).sum().item() for _ in range(count)]
"""
WRONG = COMMON + (
    "model = Net()\ntrain(model, torch.optim.SGD(model.parameters(), 0.1))\nprint(look(model))\n"
)
RIGHT = WRONG.replace("print(look", "model.eval()\nprint(look")


@pytest.fixture
def record(tmp_path):
    def run(source, *options, arguments=(), **settings):
        (tmp_path / "train.py").write_text(source)
        command = [sys.executable, "-m", "evalmode", "record", *options, "train.py", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=120, **settings
        )

    return run


def plain(source, folder):
    path = folder / "plain.py"
    path.write_text(source)
    return subprocess.run([sys.executable, path], capture_output=True, text=True, check=True).stdout


def line_of(source, text):
    return next(n for n, line in enumerate(source.splitlines(), 1) if text in line)


def test_a_mistake_is_named_with_its_line_and_numbers_are_as_without(record, tmp_path):
    done = record(WRONG)
    assert done.returncode == 1 and done.stdout == plain(WRONG, tmp_path)
    where = f"train.py:{line_of(WRONG, 'return [model(X)')} in look"
    assert f"evaluated-in-train-mode  at  {where}" in done.stderr
    assert "recording of model (Net): 8 forwards, 4 optimiser steps, 1 finding" in done.stderr


def test_a_right_program_ends_with_its_own_status(record):
    done = record(RIGHT)
    assert done.returncode == 0 and "no findings" in done.stderr
    assert record(RIGHT + "sys.exit(3)").returncode == 3
    assert record(WRONG + "sys.exit(3)").returncode == 3


def test_a_program_that_fails_is_reported_without_our_frames(record):
    done = record(WRONG + "raise ValueError('bad batch')")
    assert done.returncode == 1 and "evaluated-in-train-mode" in done.stderr
    assert "ValueError: bad batch" in done.stderr
    assert not re.search(r'File ".*(utils|evalmode)/', done.stderr)


def test_ctrl_c_reports_what_was_seen(tmp_path):
    (tmp_path / "train.py").write_text(
        WRONG + "print('ready', flush=True)\nimport time\ntime.sleep(60)"
    )
    run = subprocess.Popen(
        [sys.executable, "-m", "evalmode", "record", "train.py"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "ready" in run.stdout.readline() + run.stdout.readline()
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130 and "evaluated-in-train-mode" in said


def test_json_github_and_html(record, tmp_path):
    line = line_of(WRONG, "return [model(X)")
    seen = json.loads(record(WRONG, "--json").stdout.splitlines()[-1])
    (recording,) = seen["recordings"]
    assert recording["findings"][0]["where"]["line"] == line
    assert recording["findings"][0]["chapter"] == "06_mode_bugs" and recording["steps"] == 4
    done = record(WRONG, "--github")
    assert f"::warning file=train.py,line={line},title=evaluated-in-train-mode::" in done.stdout
    assert record(WRONG, "--html", "--output", "report.html").returncode == 1
    page = (tmp_path / "report.html").read_text()
    HTMLParser().feed(page)
    assert "<svg" in page and "evaluated-in-train-mode" in page
    assert not re.findall(r'(?:src|href)="http', page)


def test_a_declared_line_is_listed_and_an_unused_declaration_is_said(record):
    declared = WRONG.replace(
        "        return [model(X)", "        # evalmode: on purpose\n        return [model(X)"
    )
    done = record(declared)
    assert done.returncode == 0 and "on purpose: evaluated-in-train-mode" in done.stderr
    assert record(WRONG, "--on-purpose", "look").returncode == 0
    unused = record(RIGHT.replace("backward()", "backward()  # evalmode: on purpose"))
    assert "is declared to be on purpose, and nothing was found there" in unused.stderr


def test_several_models_and_one_by_name(record):
    source = COMMON + (
        "teacher, student = Net(), Net()\n"
        "teacher.requires_grad_(False)\n"
        "optimizer = torch.optim.SGD(student.parameters(), 0.1)\n"
        "def distil():\n"
        "    for _ in range(4):\n"
        "        with torch.no_grad():\n"
        "            aim = teacher(X)\n"
        "        optimizer.zero_grad()\n"
        "        nn.functional.mse_loss(student(X), aim).backward()\n"
        "        optimizer.step()\n"
        "distil()\n"
    )
    done = record(source)
    assert done.returncode == 1 and "recording of teacher (Net)" in done.stderr
    assert f"train.py:{line_of(source, 'aim = teacher')} in distil" in done.stderr
    assert record(source, "--model", "student").returncode == 0
    unknown = record(source, "--model", "pupil")
    assert unknown.returncode == 2 and "called were: teacher (Net), student (Net)" in unknown.stderr


def test_a_module_with_arguments_of_its_own(tmp_path):
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text(RIGHT + "print(sys.argv[1:])")
    done = subprocess.run(
        [sys.executable, "-m", "evalmode", "record", "-m", "pack.train", "--json", "b"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "['--json', 'b']" in done.stdout


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("scripted = torch.jit.script(model.eval())\nscripted(X)\n", "RecursiveScriptModule"),
        ("parts = nn.Sequential(*model.children())\nprint(look(parts))\n", "model (Net)"),
        (
            "import threading\nt = threading.Thread(target=look, args=(model,))\nt.start()\nt.join()\n",
            "calls from another thread",
        ),
        ("for _ in range(40):\n    look(Net().eval())\n", "more models were called just like one"),
    ],
    ids=["scripted", "the same parts in another order", "a thread", "forty models"],
)
def test_what_programs_also_do(record, change, expected):
    done = record(RIGHT + change)
    assert "Error" not in done.stderr and expected in done.stderr


def test_a_part_that_is_called_before_its_whole(record):
    source = COMMON + (
        "model = Net()\nmodel.body(X)\ntrain(model, torch.optim.SGD(model.parameters(), 0.1))\n"
    )
    assert "recording of model (Net)" in record(source).stderr


def test_threads_may_be_set_before_torch_is_imported(record):
    source = "import os\nos.environ['OMP_NUM_THREADS'] = '1'\nimport torch\nprint(torch.get_num_threads())"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    assert record(source, env=environment).stdout.strip() == "1"


def test_to_ask_whether_torch_is_there_does_not_import_it(record):
    asked = "import importlib.util\nassert importlib.util.find_spec('torch')\n"
    done = record(asked + WRONG)
    assert done.returncode == 1 and "evaluated-in-train-mode" in done.stderr


def test_a_model_that_gets_a_new_head_between_two_forwards_of_a_step(record):
    source = COMMON + (
        "model = Net().eval()\nlook(model)\nmodel.head = nn.Linear(16, 4)\nmodel.train()\n"
        "optimizer = torch.optim.SGD(model.parameters(), 0.1)\n"
        "for _ in range(5):\n    optimizer.zero_grad()\n"
        "    criterion(model.head(model.body(X)), Y).backward()\n    optimizer.step()\n"
    )
    done = record(source)
    assert done.returncode == 0 and "no findings" in done.stderr, done.stderr


def test_under_torchrun_equal_findings_are_said_once(tmp_path):
    (tmp_path / "train.py").write_text(
        "import torch.distributed as dist\ndist.init_process_group('gloo')\n"
        + WRONG
        + "print('rank', dist.get_rank(), 'has ended', flush=True)\ndist.destroy_process_group()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "-m", "evalmode", "record", "train.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert said.count("has ended") == 2 and done.returncode == 1
    assert said.count("evaluated-in-train-mode  at") == 1 and said.count("said elsewhere") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a script, or -m and a module"),
        (["gone.py"], "there is no file 'gone.py'"),
        (["--json", "--output", "no/such/folder/x", "train.py"], "there is no folder"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(tmp_path, arguments, message):
    (tmp_path / "train.py").write_text("print('ran')")
    done = subprocess.run(
        [sys.executable, "-m", "evalmode", "record", *arguments],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and message in done.stderr and "ran" not in done.stdout
