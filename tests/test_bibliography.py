"""Every source that a chapter links is in the bibliography, and the other way round."""

import re
from pathlib import Path

import pytest

database = pytest.importorskip("pybtex.database")
ROOT = Path(__file__).parent.parent
LINK = re.compile(r"https://(?:doi\.org/(10\.[^\s)\"\\]+)|arxiv\.org/abs/([\d.]+\d))")


@pytest.fixture(scope="module")
def entries():
    return database.parse_file(str(ROOT / "reference" / "references.bib")).entries


@pytest.fixture(scope="module")
def chapters():
    return "\n".join(path.read_text() for path in sorted((ROOT / "chapters").glob("[0-9]*.ipynb")))


def identifiers(entry):
    fields = {name.lower(): value for name, value in entry.fields.items()}
    return {fields[name].lower() for name in ("doi", "eprint", "url") if name in fields}


def test_each_link_to_a_paper_has_an_entry(entries, chapters):
    known = set().union(*map(identifiers, entries.values()))
    known |= {match[1] for url in known if (match := re.search(r"doi\.org/(.+)", url))}
    for doi, arxiv in LINK.findall(chapters):
        assert (doi.rstrip(".,").lower() or arxiv) in known, doi or arxiv


def test_each_entry_is_cited(entries, chapters):
    text = chapters.lower()
    for key, entry in entries.items():
        author = entry.persons.get("author") or entry.persons.get("editor") or []
        named = bool(author) and author[0].last_names[-1].lower() in text
        assert named or any(one in text for one in identifiers(entry)), key
