"""Computed text and tables, as Markdown."""

from unittest.mock import Mock

import pytest

from csbp_notebooks import tables


@pytest.fixture
def shown(monkeypatch):
    display = Mock()
    monkeypatch.setattr(tables, "display", display)
    return lambda: [call.args[0].data for call in display.call_args_list]


def test_say_shows_markdown(shown):
    tables.say("w = **0.4**")
    assert shown() == ["w = **0.4**"]


def test_a_table_shows_every_cell_as_it_is(shown):
    tables.table([("1.50", 2), ("1e5", "-")], ["w", "epochs"])
    assert shown() == [
        "|    w |   epochs |\n|-----:|---------:|\n| 1.50 |        2 |\n|  1e5 |        - |"
    ]


@pytest.mark.parametrize(
    ("column", "side"),
    [
        (["1.50", "-3", "+0.1 [-0.2, 0.4]", "\u22127"], "right"),
        (["97.1 %", "-", "", "inf"], "right"),
        ([727, 1.5], "right"),
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
