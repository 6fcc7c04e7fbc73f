"""Run every chapter with all its seeds shifted: no claim may hang on a lucky one.

The source of each cell is changed before it runs: `manual_seed(n)`, `seed=n` and the like become
n + shift. Outputs are not compared, asserts must hold. What `make test-seeds` calls.
"""

from __future__ import annotations

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

CHAPTERS = Path(__file__).parent.parent / "chapters"
SHIFTS = (1, 2, 3, 4, 5)
CALL = re.compile(
    r"(?P<call>\b(?:manual_seed|random\.seed|default_rng|RandomState)\()(?P<seed>[^()]*)\)"
)
ARGUMENT = re.compile(r"(?P<call>\b(?:seed|random_state)=)(?P<seed>\w+)")
DEFAULT = re.compile(r"\btrained_digits_mlp\(")
"""Takes its seed by default, 0."""


def shift_seeds(source: str, shift: int) -> str:
    """Return a cell's source with each seed moved.

    A seed that is passed on by name, `seed=seed`, was shifted where it was set.

    Examples
    --------
    >>> shift_seeds("torch.manual_seed(0); new_run(seed=2)", 3)
    'torch.manual_seed((0) + 3); new_run(seed=2 + 3)'
    >>> shift_seeds("net, loaders = trained_digits_mlp(p=0.0)", 3)
    'net, loaders = trained_digits_mlp(seed=3, p=0.0)'
    """
    source = CALL.sub(rf"\g<call>(\g<seed>) + {shift})", source)
    source = ARGUMENT.sub(
        lambda found: found[0] if found["seed"] == "seed" else f"{found[0]} + {shift}", source
    )
    return DEFAULT.sub(f"trained_digits_mlp(seed={shift}, ", source)


def run_shifted(path: Path, shift: int) -> str | None:
    """Run one chapter; return what failed, or None."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = shift_seeds(cell.source, shift)
    client = NotebookClient(
        notebook,
        timeout=300,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.log_level=40"],
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return f"{path.name}, seeds + {shift}:\n{error}"
    return None


def main() -> int:
    """Run all chapters under all shifts, two at a time."""
    # Two kernels with two threads each would fight for two cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    jobs = [(path, shift) for path in sorted(CHAPTERS.glob("*.ipynb")) for shift in SHIFTS]
    with ThreadPoolExecutor(2) as pool:
        failures = [failure for failure in pool.map(lambda job: run_shifted(*job), jobs) if failure]
    print("\n".join(failures))
    print(f"{len(jobs) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
