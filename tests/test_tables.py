"""Computed text and tables, as Markdown."""

from unittest.mock import Mock

import pytest

from csbp_notebooks import tables
from csbp_notebooks.signs import MINUS


@pytest.fixture
def shown(monkeypatch):
    display = Mock()
    monkeypatch.setattr(tables, "display", display)
    return lambda: [call.args[0].data for call in display.call_args_list]


def test_say_shows_markdown(shown):
    tables.say("w = **0.4**")
    assert shown() == ["w = **0.4**"]


def test_say_shows_the_signs_of_print_and_code_as_it_is(shown):
    tables.say("w is -0.5 in 5% (`w0=-1`)")
    assert shown() == [f"w is {MINUS}0.5 in 5 % (`w0=-1`)"]


def test_a_table_with_the_signs_of_print_keeps_its_columns(shown):
    tables.table([("-3", "5%"), ("12", "60%")], ["w", "share"])
    assert shown() == [
        f"|   w |   share |\n|----:|--------:|\n|  {MINUS}3 |     5 % |\n|  12 |    60 % |"
    ]


def test_a_table_shows_every_cell_as_it_is(shown):
    tables.table([("1.50", 2), ("1e5", "-")], ["w", "epochs"])
    assert shown() == [
        "|    w |   epochs |\n|-----:|---------:|\n| 1.50 |        2 |\n|  1e5 |        - |"
    ]


@pytest.mark.parametrize(
    ("column", "side"),
    [
        (["1.50", "-3", "+0.1 [-0.2, 0.4]", f"{MINUS}7"], "right"),
        (["97.1 %", "-", "", "inf"], "right"),
        ([727, 1.5, float("nan")], "right"),
        (["2.5 GB", "not finite", "7 of 7", "0.1 to 0.3", "1e-05"], "right"),
        (["3 layers", "4 layers"], "left"),
        (["3", "not finished"], "left"),
        (["8-cycle", "w*"], "left"),
        (["-", "none"], "left"),
        (["information", "1"], "left"),
    ],
)
def test_a_column_stands_on_the_right_where_all_of_it_is_numbers(column, side):
    assert tables.sides([(cell, "text") for cell in column]) == [side, "left"]


def test_a_table_without_rows_has_its_columns_alone(shown):
    tables.table([], ["w", "epochs"])
    assert shown() == ["| w   | epochs   |\n|-----|----------|"]
