"""Print the whole book to one tagged PDF with contents, page numbers and links.

    python tools/make_pdf.py book.pdf

Sphinx writes the book as a single page, Chromium prints it. It is printed twice: the
first print tells on which page each heading falls, the second has those numbers in
its contents, since Chromium cannot compute them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pikepdf
from chromium import launch
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader

BOOK = Path(__file__).parent.parent
SINGLE = BOOK / "_build/singlehtml"
SMALL = '<div style="font: 8pt sans-serif; width: 100%; text-align: center; color: #555">'
HEADER = f'{SMALL}<span class="title"></span></div>'
FOOTER = f'{SMALL}<span class="pageNumber"></span> / <span class="totalPages"></span></div>'

STYLE = """
.book-contents { break-after: page; }
.book-contents ol { padding: 0; }
.book-contents li { display: flex; justify-content: space-between; list-style: none; }
.book-contents li.section { padding-left: 1.5rem; }
/* Shadows, and corners that clip what is inside, are printed as images. */
* { box-shadow: none !important; border-radius: 0 !important; filter: none !important; }
span[id^="document-"] + section { break-before: page; }
"""

# Replace the site's frame by the article alone, with contents made from its headings.
PREPARE = """(numbers) => {
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  // The theme's style for folded cells would be printed as an image over each of them.
  document.querySelectorAll("details.hide").forEach((details) => { details.className = ""; });
  document.querySelector("nav.book-contents")?.remove();
  // Each coloured token would be an object of its own, for the printer and for screen readers.
  document.querySelectorAll("div.highlight pre").forEach((code) => {
    code.textContent = code.textContent;
  });
  const article = document.querySelector("article.bd-article");
  const nav = document.createElement("nav");
  nav.className = "book-contents";
  nav.innerHTML = "<h2>Contents</h2>";
  const list = nav.appendChild(document.createElement("ol"));
  const headings = [...article.querySelectorAll("h2, h3")];  // the book's title is the only h1
  headings.forEach((heading, index) => {
    heading.querySelector(".headerlink")?.remove();
    const row = list.appendChild(document.createElement("li"));
    row.className = heading.localName === "h2" ? "chapter" : "section";
    const link = row.appendChild(document.createElement("a"));
    heading.id = `contents-${index}`;  // the sections' own ids repeat from chapter to chapter
    link.href = `#${heading.id}`;
    link.textContent = heading.textContent;
    row.appendChild(document.createElement("span")).textContent = numbers[index] ?? "";
  });
  article.querySelectorAll(".toctree-wrapper > ul").forEach((old) => old.remove());
  const title = article.querySelector("h1");
  title.parentElement.insertBefore(nav, title.nextSibling);
}"""


def print_page(page: Page, target: Path) -> None:
    """Print with tags for screen readers and an outline for the reader's side bar."""
    page.pdf(
        path=target,
        format="A4",
        tagged=True,
        outline=True,
        print_background=True,
        display_header_footer=True,
        header_template=HEADER,
        footer_template=FOOTER,
        margin={"top": "18mm", "bottom": "18mm", "left": "18mm", "right": "18mm"},
    )


def target_pages(pdf: Path) -> list[int]:
    """Return the page that each line of the contents leads to, in order."""
    reader = PdfReader(pdf)
    targets = {name.lstrip("/"): target for name, target in reader.named_destinations.items()}
    count = sum(name.startswith("contents-") for name in targets)
    pages = (reader.get_destination_page_number(targets[f"contents-{i}"]) for i in range(count))
    return [0 if page is None else page + 1 for page in pages]


def make_small(pdf: Path) -> None:
    """Pack the objects of the file: Chromium writes each tag for screen readers on its own."""
    with pikepdf.open(pdf, allow_overwriting_input=True) as book:
        book.save(
            pdf,
            object_stream_mode=pikepdf.ObjectStreamMode.generate,
            compress_streams=True,
            recompress_flate=True,
        )


def main() -> None:
    """Build the single page, print, number the contents, print again."""
    target = Path(sys.argv[1])
    jupyter_book = str(Path(sys.executable).with_name("jupyter-book"))
    command = [jupyter_book, "build", str(BOOK), "--builder", "singlehtml"]
    subprocess.run([*command, "-W", "-n", "--keep-going", "-q"], check=True, stdout=sys.stderr)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(color_scheme="light")
        page.goto((SINGLE / "index.html").as_uri(), wait_until="load")
        page.add_style_tag(content=STYLE)
        page.evaluate(PREPARE, [])
        print_page(page, target)
        page.evaluate(PREPARE, target_pages(target))
        print_page(page, target)
        browser.close()
    make_small(target)
    print(f"{target}: {len(PdfReader(target).pages)} pages")


if __name__ == "__main__":
    main()
