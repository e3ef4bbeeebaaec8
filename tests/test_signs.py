"""The signs of print: which hyphens become a minus, and that what is recorded and shown has it."""

import html
import json
import re

import nbformat
import pytest

from csbp_notebooks.files import NOTEBOOKS, ROOT
from csbp_notebooks.signs import MINUS, as_printed, less, with_minus

README = ROOT / "README.md"


def test_the_minus_is_that_of_unicode():
    assert MINUS == "\N{MINUS SIGN}"
    assert less("a", "b") == "a \N{MINUS SIGN} b"
    assert with_minus("-0.5") == "\N{MINUS SIGN}0.5"


# With "~" for the minus that is expected, which looks like a hyphen.
@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("-1", "~1"),
        ("between -6.87 and -.5", "between ~6.87 and ~.5"),
        ("+0.1 [-0.2, 0.4] (-3)", "+0.1 [~0.2, 0.4] (~3)"),
        ("|   -3.5 | -inf |", "|   ~3.5 | ~inf |"),
        ("to the -305,\n-2", "to the ~305,\n~2"),
    ],
)
def test_the_hyphen_of_a_negative_number_becomes_a_minus(text, printed):
    assert as_printed(text) == printed.replace("~", MINUS)


@pytest.mark.parametrize(
    "text",
    [
        "epochs 1-700 of DVS-CIFAR10, an 8-cycle",
        "|-----:|:---|",
        "- 3 of them",
        "2**-24 and 1e-05",
        "`-p z -3`, and $w = -2$ as in $10^{-4}$",
        "`100%`",
        "5 % of -that",
        "%s and % alone",
    ],
)
def test_all_other_hyphens_and_per_cent_signs_stay(text):
    assert as_printed(text) == text


def test_a_per_cent_sign_has_a_space_before_it():
    assert as_printed("| 92.6% | 0.5 % |") == "| 92.6 % | 0.5 % |"


# What is recorded, shown and told


def is_printed(text):
    """Whether a text has no negative number and no per cent but in the manner of print."""
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "", text)
    return not re.search(r"(^|[ |(\[])-\d|\d%", text)


def recorded_sentences():
    """Every summary and every alt text of the figures, by where it stands."""
    sentences = {}
    for path in sorted((ROOT / "images").glob("*.json")):
        results = json.loads(path.read_text())["results"]
        sentences[f"{path.name}, summary"] = results["summary"]
        for name, text in results["alt"].items():
            sentences[f"{path.name}, alt of {name}"] = text
    return sentences


RECORDED = recorded_sentences()


@pytest.mark.parametrize("place", RECORDED)
def test_a_recorded_sentence_has_the_signs_of_print(place):
    assert is_printed(RECORDED[place])


def test_the_alt_texts_of_readme_have_the_signs_of_print():
    texts = re.findall(r'alt="([^"]*)"', README.read_text())
    assert len(texts) > 2
    assert [text for text in texts if not is_printed(html.unescape(text))] == []


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_what_a_stored_notebook_says_has_the_signs_of_print(path):
    said = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            said.append(output.get("data", {}).get("text/markdown", ""))
            said.append(output.get("metadata", {}).get("image/png", {}).get("alt", ""))
    assert [text for text in said if not is_printed(text)] == []
