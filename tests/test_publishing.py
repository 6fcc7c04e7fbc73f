"""What depends on where the book is published comes from two variables, and from nothing else."""

import gzip
import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from make_pdf import target_pages
from pypdf import PdfReader

ROOT = Path(__file__).parent.parent
ADDRESS = "https://someone.example/the-book"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The book, built as the publishing workflow does, somewhere else."""
    out = tmp_path_factory.mktemp("published")
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(ROOT)]
    options = ["--path-output", str(out), "--all", "-W", "-n", "--keep-going", "-q"]
    variables = {"BOOK_URL": ADDRESS, "BOOK_REPOSITORY": "someone/the-book"}
    subprocess.run(
        [*command, *options], check=True, env=os.environ | variables, capture_output=True
    )
    return out / "_build" / "html"


def test_the_sitemap_lists_the_pages(published):
    pages = re.findall(r"<loc>(.+?)</loc>", (published / "sitemap.xml").read_text())
    assert f"{ADDRESS}/chapters/01_two_modes.html" in pages and f"{ADDRESS}/404.html" not in pages
    assert f"Sitemap: {ADDRESS}/sitemap.xml" in (published / "robots.txt").read_text()


def test_previews_and_launch_buttons_know_the_address(published):
    page = (published / "chapters/02_dropout.html").read_text()
    assert f'<link rel="canonical" href="{ADDRESS}/chapters/02_dropout.html"' in page
    assert f'content="{ADDRESS}/_static/preview.png"' in page
    assert (published / "_static/preview.png").exists()
    notebook = "someone/the-book/blob/colab/chapters/02_dropout.ipynb"
    assert f'href="https://colab.research.google.com/github/{notebook}"' in page
    assert 'href="https://mybinder.org/v2/gh/someone/the-book/' in page


def test_the_404_page_works_below_the_address(published):
    assert 'href="/the-book/_static/site.css' in (published / "404.html").read_text()


def test_an_unpublished_book_has_neither(tmp_path):
    page = (ROOT / "_build/html/chapters/02_dropout.html").read_text()
    assert "colab.research" not in page and "canonical" not in page
    assert not (ROOT / "_build/html/sitemap.xml").exists()


@pytest.fixture(scope="module")
def pdf(tmp_path_factory):
    target = tmp_path_factory.mktemp("pdf") / "book.pdf"
    subprocess.run(
        [sys.executable, str(ROOT / "tools/make_pdf.py"), str(target)],
        check=True,
        capture_output=True,
    )
    return target


def test_the_pdf_is_tagged_and_has_contents_numbers_and_links(pdf):
    reader = PdfReader(pdf)
    assert reader.trailer["/Root"]["/MarkInfo"]["/Marked"]
    pages = target_pages(pdf)
    assert len(pages) > 60 and pages == sorted(pages) and pages[-1] <= len(reader.pages)
    contents = "".join(page.extract_text() for page in reader.pages[: pages[0]])
    assert "3. Batch norm" in contents and str(pages[-1]) in contents
    links = [
        annotation
        for page in reader.pages
        for annotation in page.get("/Annots") or []
        if "/Dest" in annotation.get_object()
    ]
    assert len(links) >= len(pages)
    # So that a book of twice the pages stays under 6 MB.
    assert pdf.stat().st_size < 3e6 * max(1, len(reader.pages) / 204)
    text = "".join(page.extract_text() for page in reader.pages)
    assert "Guessing would get 10" in text  # behind a prediction
    assert "super().forward(x)" in text  # in a folded solution


@pytest.fixture(scope="module")
def secrets():
    """Solutions, and lines of hidden tests and of the key of the concept test."""
    from grading.assignment import Assignment, all_names

    key = (ROOT / "instructors" / "keys" / "concept_test_key.md").read_text()
    title, *lines = key.splitlines()
    found = [title, *(line for line in lines if len(line) > 60)]
    for name in all_names():
        for task in Assignment.load(name).tasks:
            lines = [line.strip() for line in task.code.splitlines()]
            found += [line for line in lines if "lambda a:" in line and len(line) > 40][:3]
        for cell in Assignment.load(name).notebook.cells:
            for solution in re.findall(r"### BEGIN SOLUTION\n(.*?)### END", cell.source, re.DOTALL):
                # A chapter may teach a line of it.
                found += [solution] if solution.count("\n") > 2 else []
    return [plain(line) for line in found]


def plain(text):
    """As it reads: no markup of a page, of JSON or of highlighted code, and one space for many."""
    text = re.sub(r"<[^>]*>", "", text).replace("\\n", " ").replace('\\"', '"')
    return " ".join(html.unescape(text).split())


def test_no_solution_hidden_test_or_key_is_in_the_site_or_its_search(published, secrets):
    for path in published.rglob("*"):
        if path.is_file() and path.suffix in {".html", ".md", ".txt", ".ipynb", ".json", ".js"}:
            text = plain(path.read_text(encoding="utf-8", errors="replace"))
            assert not [secret for secret in secrets if secret in text], path
    for path in (published / "pagefind").rglob("*.pf_fragment"):
        text = plain(gzip.decompress(path.read_bytes()).decode())
        assert not [secret for secret in secrets if secret in text], path
        assert "points_for" not in text, path


def test_the_public_branch_loses_solutions_and_keys():
    workflow = (ROOT / ".github" / "workflows" / "publish.yml").read_text()
    removed = re.search(r"git rm -r --quiet (.+)", workflow)[1].split()
    assert {"instructors/assignments", "instructors/keys"} <= set(removed)
    assert all((ROOT / path).exists() for path in removed)
