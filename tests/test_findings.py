"""Reports: how findings are counted, printed, rendered and raised."""

from dataclasses import dataclass
from html.parser import HTMLParser

import pytest

from utils.findings import Finding, Report, first_few, in_one_line, off_by, rounded


@dataclass(frozen=True)
class Placed(Finding):
    spot: str

    @property
    def place(self):
        return self.spot


class Made(Report):
    def __init__(self, findings, notes=()):
        self.findings, self.notes = findings, list(notes)

    def headline(self):
        return f"report of Net: {self.tally()}"


ONE = Placed("random-in-eval", "two calls differ by 0.5 " + "very " * 30, "pass <training>", "a.b")


@pytest.mark.parametrize(
    ("findings", "words"), [([], "no findings"), ([ONE], "1 finding"), ([ONE, ONE], "2 findings")]
)
def test_findings_are_counted(findings, words):
    assert repr(Made(findings)).splitlines()[0] == f"report of Net: {words}"


def test_a_printed_report_wraps_and_loses_no_word():
    printed = repr(Made([ONE], ["samples in a batch: one only"]))
    assert max(map(len, printed.splitlines())) <= 80
    for word in ("random-in-eval", "a.b", "measured", "cure", "pass <training>"):
        assert word in printed
    assert printed.count("very") == 30
    assert printed.endswith("not checked: samples in a batch: one only")


def test_a_rendered_report_is_balanced_and_escaped():
    open_tags = []

    class Balanced(HTMLParser):
        def handle_starttag(self, tag, attrs):
            open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    html = Made([ONE], ["<none>"])._repr_html_()
    Balanced().feed(html)
    assert not open_tags
    assert "pass &lt;training&gt;" in html and "&lt;none&gt;" in html


def test_only_findings_raise():
    Made([], ["a note is no finding"]).raise_for_findings()
    with pytest.raises(AssertionError, match="random-in-eval"):
        Made([ONE]).raise_for_findings()


def test_words_for_numbers_and_names():
    assert first_few(["a", "b", "c", "d"]) == "a, b, c and 1 more"
    assert (rounded(123.4), rounded(1.26)) == ("120", "1.3")
    assert off_by(float("nan")) == off_by(float("inf")) == "in more than value"
    assert in_one_line(ValueError("\n one\n two")) == "ValueError: one"
    assert in_one_line(ValueError()) == "ValueError: "
