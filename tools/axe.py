"""The newest axe-core that can be had, for the tests of the pages.

The Python package that runs it brings an older one; npm's registry has this one.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path

VERSION = "4.14.1"
SHA256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
ADDRESS = f"https://registry.npmjs.org/axe-core/-/axe-core-{VERSION}.tgz"
KEPT = Path(__file__).parent.parent / ".venv" / f"axe-{VERSION}.min.js"
PATIENCE = 60
"""Seconds that the download may take."""


def newest() -> Path | None:
    """The script, downloaded once; None where the registry cannot be reached.

    Raises
    ------
    RuntimeError
        If what came is not what was pinned.
    """
    if KEPT.exists():
        return KEPT
    try:
        with urllib.request.urlopen(ADDRESS, timeout=PATIENCE) as answer:
            packed: bytes = answer.read()
    except OSError:
        return None
    if hashlib.sha256(packed).hexdigest() != SHA256:
        raise RuntimeError(f"{ADDRESS} is not the file that was pinned.")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        KEPT.write_bytes(script.read())
    return KEPT
