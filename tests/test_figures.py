"""The published picture, the set-up call, and figures that repeat."""

import hashlib

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from csbp_notebooks import files, provenance
from csbp_notebooks.figures import (
    ROOT,
    plot_weight,
    record,
    replace_file,
    save_figure,
    setup,
    writable_folder,
)

FINGERPRINT = "bd3016cbe35cd92093fb4020973344959b12ba60481449862e582d34dd700a67"
INSIDE_THE_AXES = np.s_[45:318, 95:537]  # rows and columns of pixels
POINTS = 1871  # blue pixels there


def test_example1_has_the_fingerprint_of_the_published_picture():
    pixels = np.array(Image.open(ROOT / "images" / "example1.png").convert("RGB")).astype(int)
    assert pixels.shape == (400, 600, 3)
    red, blue = pixels[..., 0], pixels[..., 2]
    points = (blue - red > 60)[INSIDE_THE_AXES]
    assert points.sum() == POINTS
    assert hashlib.sha256(np.packbits(points).tobytes()).hexdigest() == FINGERPRINT
    assert f"0 of {POINTS} data pixels differ" in (ROOT / "README.md").read_text()


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
    monkeypatch.chdir(tmp_path)
    assert setup("runs") == ROOT / "runs"


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


def test_old_import_paths_give_the_same_functions():
    assert record is provenance.record
    assert replace_file is files.replace_file
    assert writable_folder is files.writable_folder
    assert ROOT == files.ROOT
