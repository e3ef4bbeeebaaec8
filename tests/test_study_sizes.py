"""The sizes and settings that README and notebook 08 put into words are those of the study."""

import re

import pytest
from helpers import prose

from study.experiments.experiment_4 import PROTOCOL_SETTING
from study.fashion_mnist import network, training
from study.tasks.tasks import TASKS


@pytest.mark.parametrize("page", ["README.md", "notebooks/08_does_chaos_help.ipynb"])
def test_no_network_is_larger_than_is_said_and_no_task_has_more_samples(page):
    (said,) = re.findall(
        r"at most (\d+) neurons(?: and|, the data at most) ([\d,]+) training samples",
        prose(page),
    )
    neurons, samples = (int(number.replace(",", "")) for number in said)
    largest, most = 0, 0
    for task in TASKS.values():
        data = task.data(1)
        x = data.x_train[:1] if task.net().static else data.x_train[:1].transpose(0, 1)
        hidden = task.net()(x).layers
        largest = max(largest, sum(layer.spikes[0, 0].numel() for layer in hidden))
        most = max(most, len(data.x_train))
    assert neurons - 10 < largest <= neurons
    assert most == samples


def test_what_08_says_is_not_the_authors_is_so():
    """By the recipe for DVS-CIFAR10 in their code, as `study.experiments.authors` has its fc1."""
    setting = PROTOCOL_SETTING
    net = network.ImageNetwork(setting.channels, setting.features)
    fc1 = f"{net.fc1.in_features}-{net.fc1.out_features}"
    assert (
        f"{setting.images:,} training images per split, {setting.epochs} epochs for 200, batches "
        f"of {training.BATCH} for 32, two convolutions for six, {network.STEPS} time steps for "
        f"10, a `fc1` of {fc1} for 2304-1024, no dropout, no crop and no flip."
    ) in prose("notebooks/08_does_chaos_help.ipynb")
    kinds = [type(module).__name__ for module in net.modules()]
    assert kinds.count("Conv2d") == len(setting.channels) == 2
    assert "Dropout" not in kinds
