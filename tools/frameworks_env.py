"""Make `.venv-frameworks`: other libraries' training loops, apart from the book's environment.

They are many, and not needed to read or to test the book. Where they cannot be had, the tests of
them are skipped, and this says so.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

from set_up import pinned, put_on_path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".venv-frameworks"
LISTED = ROOT / "reference" / "requirements-frameworks.txt"
NEEDED = (
    "torch",
    "torchmetrics",
    "scikit-learn",
    "matplotlib",
    "tqdm",
    "pytest",
    "hypothesis",
    "numpy",
    "scipy",
    "ipykernel",
    "matplotlib-inline",
    "nbclient",
    "nbval",
)


def main() -> None:
    """Make it, unless it is there and as listed."""
    mark = FOLDER / "made-from"
    listed = LISTED.read_text() + (ROOT / "requirements.txt").read_text()
    digest = hashlib.sha256(listed.encode()).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return
    print("Installing the frameworks into .venv-frameworks (minutes, once) ...", flush=True)
    venv.create(FOLDER, with_pip=True, clear=True)
    python = str(FOLDER / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *map(pinned, NEEDED)], check=True)
    if subprocess.run([*install, "-r", str(LISTED)]).returncode:
        print("Some frameworks could not be installed: the tests of them are skipped.")
    put_on_path(python, str(ROOT))
    mark.write_text(digest)


if __name__ == "__main__":
    main()
