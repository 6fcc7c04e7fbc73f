"""Turn the book's LaTeX into MathML while the book is built.

The pages then need no script to show maths: they read the same from a folder,
on paper, without JavaScript and in a screen reader.
"""

from __future__ import annotations

import html

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

# The annotation keeps the TeX source in the page, for copying and for search.
_converter = LatexToMathML(annotation=True, fancy_error=False)


def _to_mathml(latex: str, node: nodes.Element, *, display: bool) -> str:
    """Convert, or warn with the place in the source so that a -W build fails."""
    try:
        return _converter.convert_with_local_state(latex, displaystyle=display)
    except LatexError as error:
        logger.warning("LaTeX error: %s in %r", error, latex, location=node, type="mathml")
        return f"<code>{html.escape(latex)}</code>"


def visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    """Write inline maths as a bare <math> element."""
    self.body.append(_to_mathml(node.astext(), node, display=False))
    raise nodes.SkipNode


def visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a display equation: a scroll box for the maths, its number beside it."""
    self.body.append(self.starttag(node, "div", CLASS="math-block"))
    self.body.append('<div class="math-scroll">')
    self.body.append(_to_mathml(node.astext(), node, display=True))
    self.body.append("</div>")
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer as `html_math_renderer: mathml`."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
