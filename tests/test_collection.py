"""Which notebooks are run: those of the collection, a copy by its name, and no mere file."""

import nbformat
import pytest

from csbp_notebooks import collection
from csbp_notebooks.collection import choose, home, refuse_stray
from csbp_notebooks.files import NOTEBOOKS


def test_all_are_the_stored_notebooks():
    stored = [path.stem for path in sorted(NOTEBOOKS.glob("0*.ipynb"))]
    assert set(stored) <= set(choose(("all",)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A collection of two, and the strays that Jupyter, an editor and a Mac leave."""
    monkeypatch.setattr(collection, "NOTEBOOKS", tmp_path)
    write(tmp_path / "01_a.ipynb", 'output_dir: str = "runs/01_a"')
    write(tmp_path / "02_b c.d.ipynb", "output_dir: str = 'runs/02_b c.d'  # a folder")
    write(tmp_path / "01_a-Copy1.ipynb", 'output_dir: str = "runs/01_a"')
    write(tmp_path / "Untitled.ipynb", None)
    write(tmp_path / "typed.ipynb", "z: float = 1.0")
    (tmp_path / "._01_a.ipynb").write_bytes(b"\x00\xff")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    write(tmp_path / ".ipynb_checkpoints" / "01_a-checkpoint.ipynb", "")
    return tmp_path


def write(path, parameters):
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    if parameters is not None:
        tags = {"tags": ["parameters"]}
        notebook.cells.append(nbformat.v4.new_code_cell(parameters, metadata=tags))
    nbformat.write(notebook, path)


def test_all_passes_strays_over_and_says_so_in_one_line(folder, capsys):
    assert choose(("all",)) == ["01_a", "02_b c.d"]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("csbp-run: passed over: ._01_a.ipynb cannot be read as a notebook (")
    assert said.err.count("\n") == 1
    for reason in (
        "01_a-Copy1.ipynb sets output_dir to 'runs/01_a', and not to 'runs/01_a-Copy1'",
        "Untitled.ipynb has no cell tagged `parameters` that sets output_dir",
        "typed.ipynb has no cell tagged `parameters` that sets output_dir",
    ):
        assert f"; {reason}" in said.err
    assert "checkpoint" not in said.err


def test_without_strays_nothing_is_said(folder, capsys):
    for path in folder.glob("*.ipynb"):
        if path.stem not in ("01_a", "02_b c.d"):
            path.unlink()
    assert choose(("all",)) == ["01_a", "02_b c.d"]
    assert capsys.readouterr().err == ""


def test_only_strays_are_no_collection(folder):
    (folder / "01_a.ipynb").unlink()
    (folder / "02_b c.d.ipynb").unlink()
    with pytest.raises(ValueError, match=r"^no notebook of the collection in /"):
        choose(("all",))


def test_a_copy_is_run_by_its_name(folder, capsys):
    assert choose(("01_a-Copy1", "01_a", "01_a-Copy1")) == ["01_a-Copy1", "01_a"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["Untitled", "._01_a"])
def test_what_cannot_be_run_is_refused_by_name(folder, name):
    with pytest.raises(ValueError, match=rf"^{name}\.ipynb ") as refusal:
        choose(("01_a", name))
    assert "\n" not in str(refusal.value)


def test_an_unknown_name_gets_the_nearest_and_all_there_are(folder):
    line = (
        r"^unknown notebook '02_b' \(did you mean 02_b c\.d\?\): there are \._01_a, 01_a, 01_a-Co"
    )
    with pytest.raises(ValueError, match=line):
        choose(("02_b",))


def test_no_notebooks_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(collection, "NOTEBOOKS", tmp_path)
    with pytest.raises(ValueError, match=r"^no notebooks in /.*: run csbp-run in the project's"):
        choose(("all",))


def test_all_beside_a_name_is_a_name(folder):
    with pytest.raises(ValueError, match=r"^unknown notebook 'all'"):
        choose(("all", "01_a"))


def test_a_notebook_says_where_it_writes(folder):
    assert home("02_b c.d") == "runs/02_b c.d"
    assert home("01_a-Copy1") == "runs/01_a"
    refuse_stray("02_b c.d")
    with pytest.raises(ValueError, match=r"^01_a-Copy1\.ipynb sets output_dir to 'runs/01_a'"):
        refuse_stray("01_a-Copy1")
