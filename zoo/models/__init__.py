"""The entries of the zoo, a module for each kind of package."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from zoo.entry import Entry


def all_entries() -> Iterator[Entry]:
    """Every entry; nothing of any package is imported yet, but for the list of transformers."""
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        family = importlib.import_module(module.name)
        for package, builders in family.MODELS.items():
            for name, build in builders.items():
                yield Entry(package, name, build)
