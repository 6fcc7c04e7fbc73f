"""The set-up's own errors: one clear line on what to do."""

import builtins
import importlib.util
import re
import subprocess
import sys
import venv
from collections import namedtuple
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "tools" / "set_up.py"


def load():
    spec = importlib.util.spec_from_file_location("set_up", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def set_up(monkeypatch, tmp_path):
    module = load()
    monkeypatch.setattr(module, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(module, "LOG", str(tmp_path / "log"))
    return module


def test_a_python_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"needs Python 3.11 or newer; .* is 3.9. Name another"):
        load()


def test_the_script_can_be_read_by_an_old_python():
    source = SCRIPT.read_text()
    assert "f'" not in source and 'f"' not in source and ":=" not in source


def test_a_missing_venv_module_is_told(set_up, monkeypatch):
    real = builtins.__import__

    def without_venv(name, *rest):
        if name == "ensurepip":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_venv)
    with pytest.raises(SystemExit, match="has no venv module.*python3-venv"):
        set_up.make_venv()


def test_a_full_disk_is_told_before_anything_is_installed(set_up, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(set_up.shutil, "disk_usage", lambda _: usage(0, 0, 100 * 2**20))
    monkeypatch.setattr(set_up, "make_venv", lambda: None)
    with pytest.raises(SystemExit, match="The disk has 100 MB free; about 2500 MB are needed"):
        set_up.main()


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full. Free about 2500 MB"),
        (
            "ERROR: No matching distribution found for torch==2.13.0\n",
            "there is no torch==2.13.0 for",
        ),
        ("Failed to establish a new connection: timed out", "a download failed. Check the network"),
    ],
)
def test_a_failed_installation_says_what_to_do(set_up, monkeypatch, said, hint):
    def fails(command, stdout, stderr):
        stdout.write(said)
        return 1

    monkeypatch.setattr(set_up.subprocess, "call", fails)
    with pytest.raises(SystemExit, match="Installing stopped") as stopped:
        set_up.install("python", "-r", "requirements.txt")
    assert hint in str(stopped.value)
    assert "then type the same command again" in str(stopped.value)


def test_every_requirement_is_pinned(set_up):
    lines = (SCRIPT.parent.parent / "requirements.txt").read_text().splitlines()
    names = [line.split("#")[0].strip() for line in lines]
    assert all("==" in name for name in names if name)
    assert set_up.pinned("torch") in lines


def test_pins_that_stand_elsewhere_are_those_of_the_requirements(set_up):
    root = SCRIPT.parent.parent
    for page in ("binder/requirements.txt", "CONTRIBUTING.md", "README.md"):
        for name in re.findall(r"\b([a-z-]+)==\d", (root / page).read_text()):
            assert set(re.findall(rf"\b{name}==[\d.]+\d", (root / page).read_text())) == {
                set_up.pinned(name)
            }


def test_the_clone_is_put_on_the_path(set_up, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = str(tmp_path / "env/bin/python")
    (tmp_path / "clone/utils").mkdir(parents=True)
    (tmp_path / "clone/utils/__init__.py").write_text("name = 'the book'")
    ask = [python, "-c", "import utils; print(utils.name)"]
    assert subprocess.run(ask, cwd=tmp_path / "env", capture_output=True).returncode
    set_up.put_on_path(python, str(tmp_path / "clone"))
    done = subprocess.run(ask, cwd=tmp_path / "env", capture_output=True, text=True)
    assert done.stdout.strip() == "the book"
