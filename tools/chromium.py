"""Find, bring and start a Chromium: for printing the book and for testing its pages.

python tools/chromium.py    # brings one where there is none
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from playwright.sync_api import Browser, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 300
"""Seconds that a download may take."""
HOW_TO_GET_ONE = (
    "No Chromium found, and none could be brought. Install one (Debian and Ubuntu: sudo apt "
    "install chromium), or set CHROMIUM to the path of yours, then type the same command again."
)


def find(playwright: Playwright) -> str | None:
    """The browser named by CHROMIUM, else the system's, else Playwright's own; None without."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    own = playwright.chromium.executable_path
    return path or (own if os.path.exists(own) else None)


def launch(playwright: Playwright) -> Browser:
    """Start the browser that :func:`find` finds.

    Raises
    ------
    RuntimeError
        If there is none; the message says how to get one.
    """
    path = find(playwright)
    if path is None:
        raise RuntimeError(HOW_TO_GET_ONE)
    return playwright.chromium.launch(
        executable_path=path,
        args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    )


def bring() -> bool:
    """Get a browser where there is none: Playwright's download, else Debian's package.

    Returns
    -------
    bool
        Whether there is one now.
    """
    with sync_playwright() as playwright:
        if find(playwright):
            return True
        print("Bringing a Chromium for the page tests (minutes, once) ...", flush=True)
        if _runs(sys.executable, "-m", "playwright", "install", "chromium") and find(playwright):
            return True
        may_install = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")
        if may_install and _runs("apt-get", "update", "-qq"):
            _runs("apt-get", "install", "-y", "-qq", "chromium")
        return find(playwright) is not None


def _runs(*command: str) -> bool:
    try:
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(None if bring() else HOW_TO_GET_ONE)
