"""Make `.venv-zoo`: the packages whose models `make zoo` audits, apart from the book's own.

Most are installed without what they depend on: some would bring another PyTorch, or a torchvision
that there is none of for this one. What their models do need is listed, and the rest has stand-ins
(zoo/stubs.py).
"""

from __future__ import annotations

import sys

from frameworks_env import ROOT, make

ZOO = ROOT / "zoo"
NEEDED = ("torch", "torchmetrics", "scikit-learn", "matplotlib", "tqdm", "numpy", "scipy")


def main() -> None:
    """Make it, unless it is there and as listed."""
    alone, listed = ZOO / "requirements-no-deps.txt", ZOO / "requirements.txt"
    if not make(ROOT / ".venv-zoo", NEEDED, {listed: [], alone: ["--no-deps"]}):
        sys.exit("Some packages could not be installed: zoo/requirements*.txt name them.")


if __name__ == "__main__":
    main()
