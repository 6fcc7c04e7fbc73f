"""Several processes of one ``torchrun``: equal findings are said once, and none ends too early."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from .report import LoopFinding

MAX_WAIT = 300.0
"""Seconds to wait for the other processes before the status is changed to one of failure."""


class Ranks:
    """The processes that one ``torchrun`` has started on this machine, this one among them.

    Attributes
    ----------
    rank
        The number of this one among all; None where there is no ``torchrun``.

    Examples
    --------
    >>> Ranks({}).rank is None
    True
    """

    def __init__(self, environment: os._Environ[str] | dict[str, str] | None = None) -> None:
        known = os.environ if environment is None else environment
        self.rank = known["RANK"] if "RANK" in known and "LOCAL_WORLD_SIZE" in known else None
        self._here = int(known.get("LOCAL_WORLD_SIZE", 1))
        self._local = known.get("LOCAL_RANK", "0")
        run = f"{known.get('TORCHELASTIC_RUN_ID', '')}-{known.get('MASTER_PORT', '')}"
        digest = hashlib.sha256(run.encode()).hexdigest()[:8]
        # The parent is torchrun itself, so that another run has another folder.
        self._folder = Path(tempfile.gettempdir()) / f"evalmode-{os.getppid()}-{digest}"

    def is_first_to_say(self, finding: LoopFinding) -> bool:
        """Whether no other process has said the same of the same line."""
        if self.rank is None:
            return True
        self._folder.mkdir(exist_ok=True)
        text = f"{finding.kind} {finding.where}"
        claim = self._folder / hashlib.sha256(text.encode()).hexdigest()[:16]
        try:
            claim.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def wait_for_all(self) -> bool:
        """Wait until every process here has ended its program; say whether they have.

        ``torchrun`` stops the others as soon as one of them fails.
        """
        if self.rank is None:
            return True
        self._folder.mkdir(exist_ok=True)
        (self._folder / f"ended-{self._local}").touch()
        until = time.monotonic() + MAX_WAIT
        while time.monotonic() < until and self._folder.exists():
            if len(list(self._folder.glob("ended-*"))) >= self._here:
                shutil.rmtree(self._folder, ignore_errors=True)
                return True
            time.sleep(0.01)
        return not self._folder.exists()  # another one has seen that all have ended
