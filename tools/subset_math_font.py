"""Cut Latin Modern Math down to what the book's maths needs, as woff2.

Run by hand when a chapter needs a new symbol; the result is committed:

    python tools/subset_math_font.py vendored/fonts/latinmodern-math.woff2
    python tools/subset_math_font.py --check _build/html

The second form fails when a page's maths uses a character the font lacks.
Needs fonttools and brotli; the font comes with Debian's fonts-lmodern (GUST licence).
"""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path("/usr/share/texmf/fonts/opentype/public/lm-math/latinmodern-math.otf")
FONT = Path(__file__).parent.parent / "vendored/fonts/latinmodern-math.woff2"

# A lone letter in <mi> is drawn from the italic alphabets, whatever the page's text says.
RANGES = [
    "20-7E", "A0", "AC", "B1", "B7", "D7", "F7",  # Latin, signs
    "302-304", "20D7",  # accents
    "391-3A9", "3B1-3C9", "3D5", "3F5",  # Greek
    "2016", "2026", "2032", "2061", "2190-2192", "21A6", "21D2", "210E", "211D",
    "2200", "2202", "2203", "2207-2209", "220F", "2211-2213", "2217", "221A", "221D", "221E",
    "2223-222B", "2243", "2248", "2260-2265", "226A", "226B", "2282", "2286", "2295", "2297",
    "22C5", "22EE", "22EF", "2308-230B", "23DE", "23DF", "27E8", "27E9",
    "1D400-1D433", "1D434-1D467",  # bold, italic
    "1D53C", "1D6E2-1D71B",  # double-struck E, Greek italic
]  # fmt: skip


def subset(target: Path) -> None:
    """Run pyftsubset; it keeps the MATH table and the size variants it names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "fontTools.subset", str(SOURCE),
        f"--unicodes={','.join(RANGES)}",
        "--layout-features=",  # ssty (script-size drawings) would double the file
        "--flavor=woff2", "--no-hinting", "--name-IDs=0,1,2,13,14",
        f"--output-file={target}",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB")


def missing_characters(site: Path) -> set[str]:
    """Return the characters of the built site's maths that the font cannot draw."""
    from fontTools.ttLib import TTFont

    known = set(TTFont(FONT).getBestCmap())
    used: set[str] = set()
    for page in site.rglob("*.html"):
        for formula in re.findall(r"<math.*?</math>", page.read_text(), flags=re.DOTALL):
            visible = re.sub(r"<annotation.*?</annotation>|<[^>]+>", "", formula, flags=re.DOTALL)
            used |= set(html.unescape(visible))
    invisible = {
        *range(0x2061, 0x2065),
        *range(0xFE00, 0xFE10),
    }  # operators without ink, variation selectors
    return {c for c in used if not c.isspace() and ord(c) not in known | invisible}


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        if lacking := missing_characters(Path(sys.argv[2])):
            sys.exit(
                "not in the maths font: "
                + ", ".join(f"U+{ord(c):04X} {c}" for c in sorted(lacking))
            )
    else:
        subset(Path(sys.argv[1]))
