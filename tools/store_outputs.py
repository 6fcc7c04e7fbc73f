"""Run notebooks from top to bottom and store their outputs: what `make chapters` calls."""

from __future__ import annotations

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
# What runs in the book's own environment.
NOTEBOOKS = {*ROOT.glob("chapters/[0-9]*.ipynb"), *ROOT.glob("reference/*.ipynb")} - {
    ROOT / "reference" / "frameworks.ipynb"
}
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def store_outputs(path: Path) -> None:
    """Run one notebook in its own folder and write it back, without a trace of this machine."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        coalesce_streams=True,
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=40"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def main() -> None:
    """Store the outputs of the notebooks named on the command line, or of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path)
    paths = parser.parse_args().notebooks or sorted(NOTEBOOKS)
    for path in paths:
        print(path.name, flush=True)
        store_outputs(path)


if __name__ == "__main__":
    main()
