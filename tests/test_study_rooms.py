"""The rooms of the study: each uses only rooms that stand before it."""

import ast

import pytest

from csbp_notebooks.files import ROOT

STUDY = ROOT / "study"
GROUND = {"protocol", "contrasts", "command"}  # what every room may use

# By room, those that it uses.
NEEDS = {
    "tasks": set(),
    "training": {"tasks"},
    "fashion_mnist": {"training"},
    "experiments": {"tasks", "training", "fashion_mnist"},
    "findings": {"tasks", "training", "fashion_mnist", "experiments"},
    "rule_for_z": {"tasks", "training", "fashion_mnist", "experiments", "findings"},
    "chaos": {"tasks", "training", "experiments", "findings"},
}


def used(path):
    """What a module imports of the study, by the first name below `study`."""
    package = path.parent.relative_to(ROOT).parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = node.module.split(".") if node.module else []
            names = [[*start, *module, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        found |= {name[1] for name in names if name[0] == "study"}
    return found


def test_every_room_uses_rooms_before_it_alone():
    rooms = list(NEEDS)
    assert {path.parent.name for path in STUDY.glob("*/__init__.py")} == set(rooms)
    for room, needed in NEEDS.items():
        assert needed <= set(rooms[: rooms.index(room)])


@pytest.mark.parametrize("room", NEEDS)
def test_a_room_uses_the_rooms_that_it_is_said_to_use(room):
    modules = (STUDY / room).glob("*.py")
    assert set().union(*map(used, modules)) - GROUND - {room} == NEEDS[room]


def test_what_all_rooms_stand_on_needs_none_of_them():
    assert {path.stem for path in STUDY.glob("*.py")} == GROUND | {"__init__"}
    for path in STUDY.glob("*.py"):
        assert used(path) <= GROUND
