"""Parts of a page between marks."""

import pytest

from csbp_notebooks.marks import replace_block


@pytest.mark.parametrize("text", ["", "<!-- make b: a -->\nno end\n"])
def test_a_page_without_its_marks_is_refused(text):
    with pytest.raises(ValueError, match="<!-- make b: a --> and <!-- end: a --> once each"):
        replace_block(text, "make b", "a", "new\n")


def test_only_what_stands_between_the_marks_is_replaced():
    text = "before\n<!-- make b: a -->\nold\n<!-- end: a -->\nafter\n"
    assert replace_block(text, "make b", "a", "new\n") == text.replace("old", "new")
