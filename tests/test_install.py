"""What users install: the name `evalmode`, beside whatever `utils` they have of their own."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch

from utils.modes import is_kept_in_eval, keep_in_eval

ROOT = Path(__file__).parent.parent

SAVE = """
import torch
from torch import nn
import utils
assert utils.__file__ is None or "theirs" in open(utils.__file__).read()
from evalmode.audit import audit
from evalmode.modes import is_kept_in_eval, keep_in_eval
from evalmode.recorder import record
net = nn.Sequential(keep_in_eval(nn.BatchNorm1d(4)), nn.Dropout())
assert audit(net, torch.randn(8, 4)).findings == []
with record(net) as recording, torch.no_grad():
    net(torch.randn(8, 4))
assert [f.kind for f in recording.findings] == ["evaluated-in-train-mode"]
assert "evalmode.modes.evaluating" in recording.findings[0].cure
torch.save(net, "under_evalmode.pt")
other = torch.load("under_utils.pt", weights_only=False)
assert is_kept_in_eval(other[0]) and not other.train()[0].training
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "utils", source / "utils")  # a build leaves its own files behind
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(folder),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("evalmode-*.whl"))


def test_the_wheel_holds_evalmode_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"evalmode"}
    modules = {n.removeprefix("evalmode/") for n in zipfile.ZipFile(wheel).namelist()}
    sources = {str(path.relative_to(ROOT / "utils")) for path in (ROOT / "utils").rglob("*.py")}
    assert sources <= modules and "py.typed" in modules


@pytest.mark.parametrize("init", [True, False], ids=["package", "folder"])
def test_beside_a_foreign_utils_in_a_fresh_environment(wheel, tmp_path, init):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    # The environment is fresh; what it needs of torch and the rest comes from ours.
    (packages,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (packages / "rest.pth").write_text(str(Path(torch.__file__).parents[1]))
    with zipfile.ZipFile(wheel) as file:
        file.extractall(packages)
    theirs = tmp_path / "project/utils"
    theirs.mkdir(parents=True)
    (theirs / "theirs.py").write_text("")
    if init:
        (theirs / "__init__.py").write_text("# theirs")
    net = torch.nn.Sequential(keep_in_eval(torch.nn.BatchNorm1d(4)))
    torch.save(net, theirs.parent / "under_utils.pt")
    (theirs.parent / "main.py").write_text(SAVE)
    done = subprocess.run(
        [python, "main.py"], cwd=theirs.parent, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    back = torch.load(theirs.parent / "under_evalmode.pt", weights_only=False)
    assert is_kept_in_eval(back[0]) and not back.train()[0].training and back[1].training
