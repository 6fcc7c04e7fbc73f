"""Ship one style sheet and one script, with only what the book's pages use.

The theme and its companions load ten style sheets and fifteen scripts, most of it
for things that no page has. After the build this extension joins the wanted files,
drops the style rules that no page can match, and deletes the assets that are left over.
The templates in `_templates` name the two joined files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

from utils.colors import css_variables

logger = logging.getLogger(__name__)

# Joined in this order; a pattern, since myst-nb puts a hash into its file's name.
STYLES = [
    "styles/pydata-sphinx-theme.css",
    "pygments.css",
    "styles/sphinx-book-theme.css",
    "copybutton.css",
    "mystnb.*.css",
    "sphinx-design.min.css",
]
OWN_STYLES = ["book*.css"]  # never purged: they may style what a script or a print makes
# bootstrap.js is not here: the theme needs it for tooltips and menus only, and `title` does for us.
SCRIPTS = [
    "documentation_options.js",
    "doctools.js",
    "sphinx_highlight.js",
    "clipboard.min.js",
    "copybutton.js",
    "scripts/pydata-sphinx-theme.js",
    "scripts/sphinx-book-theme.js",
    "book*.js",
]
STYLE_BUNDLE, SCRIPT_BUNDLE = "site.css", "site.js"

FIGURE = re.compile(r'<img (?P<rest>[^>]*\bsrc="(?P<file>[^"]*_images/[^"]+\.svg)"[^>]*>)')
WORD_IN_CODE = re.compile(r'<span class="pre">([^<]*)</span>')
"""What Sphinx puts around each word of inline code; no style of ours asks for it."""
_TOKEN = re.compile(
    r"""/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[{};]|[^{};"'/]+|/""", re.DOTALL
)
_NAME = re.compile(r"[.#](-?[A-Za-z_][\w-]*)")
_NOT_NAMES = re.compile(
    r"""\\.|"[^"]*"|'[^']*'|:not\([^)]*\)"""
)  # an absent name inside :not() matches


def split_rules(css: str) -> Iterator[tuple[str, str]]:
    """Yield (selector or at-rule, body) pairs; statements such as @charset have no body."""
    head, body, depth = "", "", 0
    for token in _TOKEN.findall(css):
        if token.startswith("/*"):
            continue
        if token == "{":
            depth += 1
            if depth == 1:
                continue
        elif token == "}":
            depth -= 1
            if depth == 0:
                yield head.strip(), body
                head = body = ""
                continue
        elif token == ";" and depth == 0:
            yield head.strip(), ""
            head = ""
            continue
        if depth:
            body += token
        else:
            head += token


def purge(css: str, words: set[str]) -> str:
    """Drop each selector that names a class or an id found nowhere in the pages and scripts."""
    kept = []
    for head, body in split_rules(css):
        if head.startswith(("@media", "@supports", "@layer")):
            if inner := purge(body, words):
                kept.append(f"{head}{{{inner}}}")
        elif head.startswith("@font-face") and "Font Awesome" in body:
            continue  # book.css brings the small subset under the same name
        elif head.startswith("@"):
            if body:
                kept.append(f"{head}{{{body}}}")
        else:
            selectors = [s for s in _split_selectors(head) if _can_match(s, words)]
            if selectors and body.strip():
                kept.append(f"{','.join(selectors)}{{{body}}}")
    return "".join(kept)


def _split_selectors(head: str) -> list[str]:
    """Split at the commas that are not inside brackets, as in :is(a, b)."""
    parts, depth = [""], 0
    for char in head:
        depth += (char in "([") - (char in ")]")
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


def _can_match(selector: str, words: set[str]) -> bool:
    """Tell whether all names outside :not() and :is() occur somewhere; when unsure, keep."""
    if ":is(" in selector or ":where(" in selector or ":has(" in selector:
        return True
    return all(name in words for name in _NAME.findall(_NOT_NAMES.sub("", selector)))


def join(static: Path, patterns: list[str], separator: str) -> str:
    """Join the files of the patterns; a missing one means that the theme has changed."""
    texts = []
    for pattern in patterns:
        found = sorted(static.glob(pattern))
        if not found:
            logger.warning("asset not found: %s", pattern, type="lean_pages")
        texts += [re.sub(r"\s*//# sourceMappingURL=\S+", "", path.read_text()) for path in found]
    return separator.join(texts)


def let_figures_wait(page: str, folder: Path) -> str:
    """Load each figure when the reader comes near it, and keep its room free until then.

    Loaded at once, a chapter's figures are drawn before its first paragraph is.
    """

    def wait(found: re.Match[str]) -> str:
        head = (folder / found["file"]).read_text()[:1000]
        size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', head)
        if size is None:
            logger.warning("figure of unknown size: %s", found["file"], type="lean_pages")
            return found[0]
        width, height = (round(float(points) * 4 / 3) for points in size.groups())
        return f'<img loading="lazy" width="{width}" height="{height}" {found["rest"]}'

    return FIGURE.sub(wait, page)


def drop_default_assets(
    app: Sphinx, page: str, template: str, context: dict, doctree: object
) -> None:
    """Empty the lists of scripts and style sheets that themes and extensions have filled."""
    context["script_files"] = []
    context["css_files"] = []


def _mode_colors() -> str:
    """The colours of the modes: those of the figures, made fit for text."""
    light, dark = css_variables("light"), css_variables("dark")
    return f'html, html[data-theme="light"] {{ {light} }}\nhtml[data-theme="dark"] {{ {dark} }}\n'


def write_bundles(app: Sphinx, error: Exception | None) -> None:
    """Write the joined files, point the pages at them and delete what nothing refers to."""
    if error or app.builder.format != "html":
        return
    out = Path(app.outdir)
    static = out / "_static"
    if not (static / SCRIPTS[0]).exists():
        return  # no page was out of date, so the theme copied nothing
    pages = {path: path.read_text() for path in out.rglob("*.html") if "_static" not in path.parts}

    script = join(static, SCRIPTS, "\n;\n")
    words = set(re.findall(r"[\w-]+", script + " ".join(pages.values())))
    style = (
        purge(join(static, STYLES, "\n"), words) + _mode_colors() + join(static, OWN_STYLES, "\n")
    )
    static.joinpath(STYLE_BUNDLE).write_text(style)
    static.joinpath(SCRIPT_BUNDLE).write_text(script)

    for name, text in ((STYLE_BUNDLE, style), (SCRIPT_BUNDLE, script)):
        version = hashlib.sha256(text.encode()).hexdigest()[:8]  # a changed file gets a new address
        for path in pages:
            pages[path] = re.sub(rf"{name}\?v=\w*", f"{name}?v={version}", pages[path])
    for path, page in pages.items():
        # The label that myst-nb gives a folded cell is not the text that one reads and speaks.
        page = page.replace(' aria-label="Toggle hidden content"', "")
        # Deprecated in ARIA 1.3, and not allowed on what docutils writes.
        page = page.replace(' role="doc-biblioentry"', ' role="listitem"')
        page = WORD_IN_CODE.sub(r"\1", page)
        path.write_text(let_figures_wait(page, path.parent))

    everything = style + script + " ".join(pages.values())
    folders = [folder for folder in app.config.html_static_path if not Path(folder).is_absolute()]
    own = {path.name for folder in folders for path in Path(app.confdir, folder).rglob("*")}
    for path in sorted(static.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.name not in everything and (
            path.name not in own or path.suffix in {".css", ".js"}
        ):
            path.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Come after every extension that adds assets, and after the theme writes pygments.css."""
    app.connect("html-page-context", drop_default_assets, priority=900)
    app.connect("build-finished", write_bundles, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
