"""Parts of a page between marks."""

import pytest

from csbp_notebooks.marks import WIDTH, in_lines, replace_block

PAIR = "<!-- make b: a -->\n<!-- end: a -->\n"
TURNED = "<!-- end: a -->\n<!-- make b: a -->\n"


@pytest.mark.parametrize("text", ["", "<!-- make b: a -->\nno end\n", PAIR + PAIR, TURNED])
def test_a_page_without_its_marks_is_refused(text):
    with pytest.raises(ValueError, match="<!-- make b: a --> and <!-- end: a --> once each"):
        replace_block(text, "make b", "a", "new\n")


def test_only_what_stands_between_the_marks_is_replaced():
    text = "before\n<!-- make b: a -->\nold\n<!-- end: a -->\nafter\n"
    assert replace_block(text, "make b", "a", "new\n") == text.replace("old", "new")


@pytest.mark.parametrize("shown", ["\u22120.20 [\u22120.33, \u22120.06]", "\u22120.20 \u00b1 0.13"])
def test_an_interval_stays_with_its_estimate_in_one_line(shown):
    """The words before it leave room for a part of it alone; a link may stand apart."""
    for letters in range(80, 120):
        text = in_lines(f"{'a ' * (letters // 2)}{shown} points [08]")
        (line,) = [line for line in text.splitlines() if "0.20" in line]
        assert shown in line.replace("\u00a0", " ")
        assert "points [08]" in text.replace("\n", " ")


def test_no_line_is_too_long_or_begins_with_a_sign_that_markdown_would_take_for_something_else():
    words = "CSBP - BP and x + y in 90 % of runs, "
    for letters in range(60):
        lines = in_lines("a" * letters + f" {10 * words}").splitlines()
        assert max(map(len, lines)) <= WIDTH
        assert not [line for line in lines if line.lstrip().startswith(("- ", "+ ", "% "))]
