"""Find and start a Chromium: for printing the book and for testing its pages."""

from __future__ import annotations

import os
import shutil

from playwright.sync_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW_TO_GET_ONE = (
    "No Chromium found. Install one (Debian and Ubuntu: sudo apt install chromium; elsewhere: "
    ".venv/bin/playwright install chromium), or set CHROMIUM to the path of yours."
)


def launch(playwright: Playwright) -> Browser:
    """Start the browser named by CHROMIUM, else the system's, else Playwright's own.

    Raises
    ------
    RuntimeError
        If there is none; the message says how to get one.
    """
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None and not os.path.exists(playwright.chromium.executable_path):
        raise RuntimeError(HOW_TO_GET_ONE)
    return playwright.chromium.launch(
        executable_path=path,
        args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    )
