"""Fashion-MNIST: what is read of its files, which files are refused, and who sees which images."""

import gzip
import re
import struct

import numpy as np
import pytest
import torch

from study.fashion_mnist.images import HELD_OUT, Images, load, split

PARTS = {"train": 30, "t10k": 20}  # images
TRAIN_LABELS = "train-labels-idx1-ubyte"
TRAIN_IMAGES = "train-images-idx3-ubyte"


def idx(numbers):
    """The bytes of an IDX file, by the description of its format."""
    head = struct.pack(">HBB", 0, 8, numbers.ndim)
    sizes = b"".join(struct.pack(">I", size) for size in numbers.shape)
    return head + sizes + numbers.astype(np.uint8).tobytes()


def pixels(part):
    return np.random.default_rng(len(part)).integers(0, 256, (PARTS[part], 28, 28))


def labels(part):
    return np.arange(PARTS[part]) % 10


@pytest.fixture
def folder(tmp_path):
    for part in PARTS:
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels(part)))
        compressed = gzip.compress(idx(labels(part)))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(compressed)
    return tmp_path


@pytest.mark.parametrize(("name", "part"), [("train", "train"), ("test", "t10k")])
def test_files_are_read_compressed_or_not(folder, name, part):
    images = getattr(load(folder, given_as="--data"), name)
    np.testing.assert_allclose(images.x.numpy(), pixels(part) / 255, atol=1e-7)
    np.testing.assert_array_equal(images.y.numpy(), labels(part))
    assert images.x.dtype == torch.float32


def said(folder):
    with pytest.raises(ValueError, match=re.escape(str(folder))) as refusal:
        load(folder, given_as="--data")
    message = str(refusal.value)
    assert "\n" not in message
    return message


def test_no_folder_is_one_line(tmp_path):
    nowhere = tmp_path / "nowhere"
    must = "must be a folder with the files of Fashion-MNIST"
    assert said(nowhere) == f"--data = {nowhere}: {must}"


def test_a_missing_file_is_named(folder):
    (folder / TRAIN_IMAGES).unlink()
    missing = f"has no file {TRAIN_IMAGES} and no {TRAIN_IMAGES}.gz"
    assert said(folder) == f"--data = {folder}: {missing}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "must be an IDX file"),
        (idx(np.zeros(30)), "whose first bytes are 00 00 08 03, not 00 00 08 01"),
        (idx(np.zeros((30, 28, 28)))[:-1], "its head tells 30 x 28 x 28 numbers, but it has 23519"),
        (idx(np.zeros((30, 28, 28))) + b"0", "but it has 23521"),
        (idx(np.zeros((30, 8, 9))), "images must have 28 x 28 pixels, not 8 x 9"),
        (idx(np.zeros((29, 28, 28))), "must have a label for each of 29 images, not 30"),
    ],
    ids=["empty", "labels", "short", "long", "small", "fewer"],
)
def test_a_file_of_something_else_is_one_line(folder, content, reason):
    (folder / TRAIN_IMAGES).write_bytes(content)
    assert reason in said(folder)


@pytest.mark.parametrize("keep", [5, -9])
def test_a_damaged_compressed_file_is_one_line(folder, keep):
    file = folder / f"{TRAIN_LABELS}.gz"
    file.write_bytes(file.read_bytes()[:keep])
    assert f"{TRAIN_LABELS}.gz: cannot be read" in said(folder)


def test_a_label_beyond_nine_is_one_line(folder):
    (folder / TRAIN_LABELS).write_bytes(idx(np.full(30, 10)))
    assert "labels must be from 0 to 9, not 10" in said(folder)


# Splits


@pytest.fixture(scope="module")
def numbered():
    """Images whose first pixel is their number; 600 or more of every class."""
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 620))
    x = torch.zeros(len(y), 28, 28)
    x[:, 0, 0] = torch.arange(len(y))
    return Images(x, torch.from_numpy(y))


def numbers(images):
    return images.x[:, 0, 0].long().tolist()


def test_a_split_has_the_first_of_every_class_in_a_random_order(numbered):
    made = split(numbered, 3, per_class=100)
    expected_train, expected_held_out = [], []
    seen = dict.fromkeys(range(10), 0)
    for number in np.random.default_rng(3).permutation(6200).tolist():
        label = int(numbered.y[number])
        seen[label] += 1
        if seen[label] <= 100:
            expected_train.append(number)
        elif seen[label] <= 100 + HELD_OUT:
            expected_held_out.append(number)
    assert numbers(made.train) == expected_train
    assert numbers(made.held_out) == expected_held_out
    assert made.held_out.y.bincount().tolist() == [500] * 10


def test_other_splits_have_other_images(numbered):
    first, second = (set(numbers(split(numbered, k, 100).train)) for k in (1, 2))
    assert 100 < len(first & second) < 220  # of 1,000, by chance 161


def test_what_is_held_out_is_no_more_than_what_is_left(numbered):
    made = split(numbered, 1, per_class=610)
    assert made.held_out.y.bincount().tolist() == [10] * 10
    assert not set(numbers(made.train)) & set(numbers(made.held_out))


def test_more_images_of_a_class_than_there_are_is_one_line(numbered):
    with pytest.raises(ValueError, match=r"class = 621: class 0 has no more than 620$"):
        split(numbered, 1, per_class=621)
