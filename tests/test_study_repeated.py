"""Cells made twice: what differs between two made files is known."""

import copy
import json

import pytest

from csbp_notebooks.files import ROOT
from study.experiments.repeated import REPEATED, in_words, main
from study.findings.cells import expected_cells

CELL = {
    "task": "xor",
    "rules": {"csbp": {"accuracy": [1.0, 0.5], "finite": True}},
    "provenance": {"commit": "a", "seconds": 3.0},
}


@pytest.fixture
def folders(tmp_path):
    """A folder with a cell, and one with the same cell made again."""
    again = copy.deepcopy(CELL)
    again["provenance"] = {"commit": "b", "seconds": 4.0}
    for name, cell in (("first", CELL), ("second", again)):
        file = tmp_path / name / "experiment_1" / "xor.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(cell))
    return tmp_path


def found(folders):
    """What the command writes of the only cell."""
    out = folders / "repeated.json"
    main([str(folders / "first"), str(folders / "second"), "--out", str(out)])
    return json.loads(out.read_text())["cells"]["experiment_1/xor.json"]


def change(folders, change_cell):
    """Change the cell that was made again."""
    file = folders / "second" / "experiment_1" / "xor.json"
    cell = json.loads(file.read_text())
    change_cell(cell)
    file.write_text(json.dumps(cell))


def test_a_cell_that_differs_in_its_provenance_alone_is_the_same(folders):
    assert found(folders) == {"entries": 4, "differing": [], "commits": ["a", "b"]}


def test_the_last_bit_of_a_number_counts(folders):
    change(folders, lambda cell: cell["rules"]["csbp"].update(accuracy=[1.0, 0.5 + 2**-53]))
    assert found(folders)["differing"] == ["rules.csbp.accuracy.1"]


def test_words_say_how_many_entries_differ(folders):
    change(folders, lambda cell: cell.update(task="digits_1"))
    cells = {"a": found(folders), "b": {"entries": 1996, "differing": []}}
    assert (
        in_words({"cells": cells}) == "2 cells were made a second time: 1 of 2,000 entries differs."
    )
    cells["a"]["differing"] = []
    assert in_words({"cells": cells}).endswith(": all 2,000 entries are the same.")


def test_an_entry_that_only_one_has_differs(folders):
    change(folders, lambda cell: cell["rules"]["csbp"].pop("finite"))
    change(folders, lambda cell: cell.update(lr=0.1))
    assert found(folders)["differing"] == ["lr", "rules.csbp.finite"]


def test_nothing_made_again_is_refused_in_one_line(folders, capsys):
    (folders / "empty").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main([str(folders / "first"), str(folders / "empty"), "--out", str(folders / "x.json")])
    assert capsys.readouterr().err.count("\n") == 1


def test_a_cell_without_a_first_is_refused_and_nothing_is_written(folders, capsys):
    (folders / "first" / "experiment_1" / "xor.json").unlink()
    with pytest.raises(SystemExit, match="2"):
        main([str(folders / "first"), str(folders / "second"), "--out", str(folders / "x.json")])
    assert "first = " in capsys.readouterr().err
    assert not (folders / "x.json").exists()


def test_two_cells_of_every_experiment_are_made_again():
    assert set(REPEATED) <= set(expected_cells())
    experiments = [name.split("/")[0] for name in REPEATED]
    assert experiments == sorted(2 * [f"experiment_{number}" for number in (1, 2, 3, 4)])


def test_every_entry_of_the_cells_made_twice_is_the_same():
    cells = json.loads((ROOT / "study" / "repeated.json").read_text())["cells"]
    assert {name.removesuffix(".json") for name in cells} == set(REPEATED)
    assert all(cell["entries"] > 0 and not cell["differing"] for cell in cells.values())
