import hashlib
import json
import os

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from csbp_notebooks.figures import ROOT, plot_weight, record, replace_file, save_figure, setup

FINGERPRINT = "bd3016cbe35cd92093fb4020973344959b12ba60481449862e582d34dd700a67"


def test_example1_has_the_fingerprint_of_the_published_picture():
    pixels = np.array(Image.open(ROOT / "images" / "example1.png").convert("RGB")).astype(int)
    assert pixels.shape == (400, 600, 3)
    blue = (pixels[..., 2] - pixels[..., 0] > 60)[45:318, 95:537]
    assert blue.sum() == 1871
    assert hashlib.sha256(np.packbits(blue).tobytes()).hexdigest() == FINGERPRINT
    assert f"0 of {blue.sum()} data pixels differ" in (ROOT / "README.md").read_text()


def test_example2_has_the_published_ticks():
    fig, ax = plot_weight([-6.7, 4.5])
    fig.canvas.draw()
    inside = [tick for tick in ax.get_yticks() if ax.get_ylim()[0] < tick < ax.get_ylim()[1]]
    assert inside == [-6, -4, -2, 0, 2, 4]


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


def test_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"output_dir = '.*/below': must be a folder that can be written \(Not a dir"):
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


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "figure.png"
    replace_file(path, b"old")

    def fail(*_):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space left"):
            replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    replace_file(path, b"newer")
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"newer"


def test_record_keeps_results_apart_from_provenance(tmp_path):
    results = {"w": np.float64(0.1), "first": np.arange(2.0), "h": torch.tensor(2.5)}
    record(tmp_path / "x", notebook="01_single_neuron_bp", parameters={"z": 1.0}, results=results)
    stored = json.loads((tmp_path / "x.json").read_text())
    assert stored["results"] == {"w": 0.1, "first": [0, 1], "h": 2.5}
    provenance = stored["provenance"]
    assert provenance["parameters"] == {"z": 1.0}
    assert provenance["versions"]["torch"] == torch.__version__
    assert {"notebook", "torch_threads", "cpu", "cpu_capability", "commit", "dirty"} <= provenance.keys()


def test_record_refuses_what_json_has_no_word_for(tmp_path):
    with pytest.raises(ValueError, match="results: must be finite numbers"):
        record(tmp_path / "x", notebook="n", parameters={}, results={"loss": float("nan")})
    assert not any(tmp_path.iterdir())
