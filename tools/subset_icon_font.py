"""Cut the theme's icon font down to the icons in use (158 kB to about 3 kB), as woff2.

Run by hand after an upgrade of the theme: python tools/subset_icon_font.py
The icons are Font Awesome Free's, under the SIL Open Font Licence.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pydata_sphinx_theme

THEME = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static"
SOURCE = THEME / "vendor/fontawesome/webfonts/fa-solid-900.woff2"
TARGET = Path(__file__).parent.parent / "vendored/fonts/icons.woff2"

ICONS = {
    "bars": 0xF0C9, "list": 0xF03A, "magnifying-glass": 0xF002, "sun": 0xF185, "moon": 0xF186,
    "circle-half-stroke": 0xF042, "download": 0xF019, "angle-left": 0xF104, "angle-right": 0xF105,
    "angle-down": 0xF107, "chevron-down": 0xF078, "chevron-right": 0xF054, "xmark": 0xF00D,
    "check-circle": 0xF058, "info-circle": 0xF05A, "exclamation-triangle": 0xF071,
    "exclamation-circle": 0xF06A, "times-circle": 0xF057, "lightbulb": 0xF0EB, "share": 0xF064,
    "bell": 0xF0F3, "pencil": 0xF303, "search-minus": 0xF010, "external-link": 0xF35D,
}  # fmt: skip

TARGET.parent.mkdir(parents=True, exist_ok=True)
options = [
    "--flavor=woff2",
    "--layout-features=",
    f"--unicodes={','.join(f'{code:X}' for code in ICONS.values())}",
    f"--output-file={TARGET}",
]
subprocess.run([sys.executable, "-m", "fontTools.subset", str(SOURCE), *options], check=True)
print(f"{TARGET}: {TARGET.stat().st_size / 1000:.1f} kB")
