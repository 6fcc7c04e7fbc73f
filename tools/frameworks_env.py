"""Make `.venv-frameworks`: other libraries' training loops, apart from the book's environment.

They are many, and not needed to read or to test the book. Where they cannot be had, the tests of
them are skipped, and this says so.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
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
    if not make(FOLDER, NEEDED, {LISTED: []}):
        print("Some frameworks could not be installed: the tests of them are skipped.")


def make(folder: Path, needed: Sequence[str], lists: Mapping[Path, Sequence[str]]) -> bool:
    """Make an environment beside the book's, unless it is there and made from these lists.

    Parameters
    ----------
    folder
        The environment.
    needed
        Packages in the versions of the book's own.
    lists
        Files of further requirements, each with its options of ``pip install``.

    Returns
    -------
    bool
        Whether everything in the lists could be installed.
    """
    mark = folder / "made-from"
    listed = "".join(path.read_text() for path in (*lists, ROOT / "requirements.txt"))
    digest = hashlib.sha256(listed.encode()).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return True
    print(f"Installing packages into {folder.name} (minutes, once) ...", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, *map(pinned, needed)], check=True)
    commands = [[*install, *options, "-r", str(path)] for path, options in lists.items()]
    complete = not any([subprocess.run(command).returncode for command in commands])
    put_on_path(python, str(ROOT))
    mark.write_text(digest)
    return complete


if __name__ == "__main__":
    main()
