"""The published picture, the set-up call, and figures that repeat."""

import hashlib
import json
import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from csbp_core import train_single_neuron
from csbp_notebooks import figures, files, provenance
from csbp_notebooks.figures import (
    ROOT,
    add_axis_of_z,
    headline,
    plot_weight,
    record,
    replace_file,
    save_figure,
    setup,
    show_figure,
    writable_folder,
)
from csbp_notebooks.signs import MINUS

FINGERPRINT = "bd3016cbe35cd92093fb4020973344959b12ba60481449862e582d34dd700a67"
INSIDE_THE_AXES = np.s_[45:318, 95:537]  # rows and columns of pixels
POINTS = 1871  # blue pixels there

RECORDED = json.loads((ROOT / "images" / "example1.json").read_text())
EXAMPLE1 = RECORDED["results"]
VERSIONS = RECORDED["provenance"]["versions"]


def data_pixels(picture):
    """Where the blue points are, inside of the axes."""
    pixels = np.array(Image.open(picture).convert("RGB")).astype(int)
    assert pixels.shape == (400, 600, 3)
    red, blue = pixels[..., 0], pixels[..., 2]
    return (blue - red > 60)[INSIDE_THE_AXES]


def fingerprint(points):
    return hashlib.sha256(np.packbits(points).tobytes()).hexdigest()


def test_example1_has_the_fingerprint_of_the_published_picture():
    points = data_pixels(ROOT / "images" / "example1.png")
    assert points.sum() == POINTS
    assert fingerprint(points) == FINGERPRINT
    assert f"0 of {POINTS} data pixels differ" in (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def example1(tmp_path_factory):
    """Example 1, drawn anew."""
    out = setup(tmp_path_factory.mktemp("images"))
    moving = train_single_neuron("bp", epochs=40, lr=0.001).w
    w = np.concatenate([moving, np.full(3960, moving[-1])])  # it has come to rest: no spikes
    assert hashlib.sha256(w.astype(np.float32).tobytes()).hexdigest() == EXAMPLE1["w_sha256"]
    fig, _ = plot_weight(w)
    save_figure(fig, out / "example1")
    plt.close(fig)
    return out / "example1.png"


def test_drawing_example1_gives_the_published_picture(example1):
    points = data_pixels(example1)
    assert points.sum() == POINTS
    assert fingerprint(points) == FINGERPRINT


def test_drawing_example1_gives_the_committed_bytes(example1):
    if provenance.versions("matplotlib")["matplotlib"] != VERSIONS["matplotlib"]:
        pytest.skip("another matplotlib writes labels with other pixels")
    assert example1.read_bytes() == (ROOT / "images" / "example1.png").read_bytes()


@pytest.mark.parametrize(
    ("epochs", "ticks"),
    [(1001, [0, 1000]), (10000, list(range(0, 10001, 1000)))],
)
def test_the_published_ticks_are_a_thousand_epochs_apart(epochs, ticks):
    fig, ax = plot_weight(np.zeros(epochs))
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low < tick < high] == ticks
    plt.close(fig)


@pytest.mark.parametrize("epochs", [1000, 10001])
def test_where_those_ticks_would_be_too_few_or_too_many_there_are_others(epochs):
    fig, ax = plot_weight(np.zeros(epochs))
    assert np.diff(ax.get_xticks())[0] != 1000
    plt.close(fig)


def test_example2_has_the_published_ticks():
    fig, ax = plot_weight([-6.7, 4.5])
    fig.canvas.draw()
    low, high = ax.get_ylim()
    assert [tick for tick in ax.get_yticks() if low < tick < high] == [-6, -4, -2, 0, 2, 4]


def test_setup_fixes_threads_seed_and_style(tmp_path):
    plt.rcParams["figure.dpi"] = 33
    torch.set_num_threads(2)
    draws = []
    for _ in range(2):
        assert setup(tmp_path / "new", seed=4) == tmp_path / "new"
        draws.append((torch.rand(3).tolist(), np.random.rand(3).tolist()))
    assert draws[0] == draws[1]
    assert torch.get_num_threads() == 1
    assert plt.rcParams["figure.dpi"] == 100
    assert list(tmp_path.iterdir()) == [tmp_path / "new"]
    assert not any((tmp_path / "new").iterdir())


def test_relative_folder_starts_at_the_root(tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    monkeypatch.setattr(figures, "ROOT", tmp_path / "root")
    monkeypatch.chdir(tmp_path)
    assert setup("runs") == tmp_path / "root" / "runs"
    assert (tmp_path / "root" / "runs").is_dir()
    assert not (tmp_path / "runs").exists()


def test_setup_refuses_a_seed_that_numpy_cannot_take(tmp_path):
    setup(tmp_path, seed=4294967295)
    with pytest.raises(ValueError, match=r"^seed = 4294967296: must be an integer in \[0, 42949"):
        setup(tmp_path / "new", seed=4294967296)
    assert not (tmp_path / "new").exists()


def test_the_seed_is_0_unless_given(tmp_path):
    setup(tmp_path)
    drawn = torch.rand(3).tolist()
    torch.manual_seed(0)
    assert torch.rand(3).tolist() == drawn


def test_setup_refuses_an_unwritable_folder_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    line = r"output_dir = '.*/below': must be a folder that can be written \(Not a dir"
    with pytest.raises(ValueError, match=line):
        setup(tmp_path / "file" / "below")


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        setup(tmp_path)
        fig, _ = plot_weight(np.sin(np.arange(50)))
        save_figure(fig, tmp_path / name)
        plt.close(fig)
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 4


def test_no_setting_of_the_users_reaches_a_figure(tmp_path):
    pictures = []
    for colour in ("black", "orange"):
        with mpl.rc_context({"axes.facecolor": colour, "savefig.dpi": 33, "svg.fonttype": "none"}):
            setup(tmp_path)
            fig, _ = plot_weight(np.arange(5))
            save_figure(fig, tmp_path / colour)
            plt.close(fig)
        pictures.append([(tmp_path / f"{colour}.{kind}").read_bytes() for kind in ("png", "svg")])
    setup(tmp_path)
    fig, _ = plot_weight(np.arange(5))
    save_figure(fig, tmp_path / "usual")
    plt.close(fig)
    usual = [(tmp_path / f"usual.{kind}").read_bytes() for kind in ("png", "svg")]
    assert pictures == [usual, usual]


def test_a_dot_in_a_name_is_no_suffix(tmp_path):
    fig = plt.figure()
    save_figure(fig, tmp_path / "z_0.5")
    plt.close(fig)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["z_0.5.png", "z_0.5.svg"]


def test_a_figure_that_cannot_be_written_as_svg_keeps_the_old_png(tmp_path):
    (tmp_path / "a.png").write_text("old")
    (tmp_path / "a.svg").mkdir()  # as good as a full disk
    fig = plt.figure()
    with pytest.raises(OSError, match=r"a\.svg cannot be written"):
        save_figure(fig, tmp_path / "a")
    plt.close(fig)
    assert (tmp_path / "a.png").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_headline_stays_within_the_figure(tmp_path):
    setup(tmp_path)
    fig, _ = plt.subplots(figsize=(9, 4), layout="constrained")
    claim = "Between the bursts a cycle attracts all $w$, down to the last bit, but not $w^*$. " * 3
    assert headline(fig, claim).startswith("Between the bursts a cycle attracts all w, down to the")
    assert "not w*." in headline(fig, claim)
    fig.canvas.draw()
    box = fig.texts[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= fig.bbox.x1
    assert fig.get_suptitle().count("\n") >= 2
    plt.close(fig)


def test_headline_and_alt_text_have_the_minus_of_print(monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "display", shown.append)
    fig = plt.figure()
    plain = headline(fig, "$w$ falls to -7")
    show_figure(fig, "w falls to -7")
    assert fig.get_suptitle() == f"$w$ falls to {MINUS}7"
    assert plain == shown[0].alt == f"w falls to {MINUS}7"


@pytest.mark.parametrize("beta", [0.9995, 0.999, 0.99])
def test_the_axis_of_z_has_its_numbers_at_their_epochs(beta):
    fig, ax = plt.subplots()
    ax.set_xlim(0, 2400)
    add_axis_of_z(ax, 10.0, beta)
    fig.canvas.draw()
    (axis,) = ax.child_axes
    labels = [float(label.get_text()) for label in axis.get_xticklabels()]
    strengths = axis.get_xticks()
    assert labels == pytest.approx(list(strengths), rel=0.01)
    across = axis.transData.transform([(strength, 0) for strength in strengths])[:, 0]
    epochs = ax.transData.inverted().transform(np.c_[across, across])[:, 0]
    np.testing.assert_allclose(10 * beta**epochs, strengths, rtol=1e-6)
    assert len(labels) >= 5
    plt.close(fig)


def test_a_shown_figure_is_the_saved_one_with_its_alt_text(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "display", shown.append)
    setup(tmp_path)
    fig, _ = plot_weight(np.arange(5))
    save_figure(fig, tmp_path / "figure")
    show_figure(fig, "rises from 0 to 4")
    (picture,) = shown
    assert picture.data == (tmp_path / "figure.png").read_bytes()
    assert picture._repr_mimebundle_()[1] == {"image/png": {"alt": "rises from 0 to 4"}}
    assert fig.number not in plt.get_fignums()


STORED = sorted(files.NOTEBOOKS.glob("0*.ipynb"))


def pictures_of(path):
    """The outputs of a stored notebook that are pictures."""
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "image/png" in output.get("data", {})]


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_every_stored_picture_has_an_alt_text_with_a_number(path):
    pictures = pictures_of(path)
    assert pictures
    for picture in pictures:
        alt = picture.metadata["image/png"]["alt"]
        assert re.search(r"\d", alt), alt
        assert len(alt.split()) >= 8, alt


def test_old_import_paths_give_the_same_functions():
    assert record is provenance.record
    assert replace_file is files.replace_file
    assert writable_folder is files.writable_folder
    assert ROOT == files.ROOT
