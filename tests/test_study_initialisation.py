"""The start that is set from the data gives every unit the mean and the spread that it promises."""

import pytest
import torch

from study.tasks.initialisation import SMALLEST_SPREAD, set_from_data
from study.tasks.networks import Net
from study.tasks.tasks import TASKS, new_net

MEAN, SPREAD = 0.25, 0.5


def hidden_currents(net, x):
    """The currents of every layer with its units in front, `[units, everything else]`."""
    return [layer.current.transpose(0, 2).flatten(1).detach() for layer in net(x).layers]


@pytest.mark.parametrize("name", TASKS)
def test_every_unit_has_the_mean_and_the_spread_that_were_asked_for(name):
    task = TASKS[name]
    net = new_net(task, 0)
    x = net.time_first(task.data().x_train[:200])
    set_from_data(net, x, MEAN, SPREAD)
    for currents in hidden_currents(net, x):
        assert currents.mean(1).numpy() == pytest.approx(MEAN, abs=1e-4)
        assert currents.std(1, correction=0).numpy() == pytest.approx(SPREAD, rel=1e-3)


def test_a_unit_that_hardly_varies_is_scaled_as_if_it_did_by_the_floor():
    drive = torch.nn.Linear(1, 1)
    weight = drive.weight.item()
    net = Net([drive], torch.nn.Linear(1, 2), static=2)
    x = torch.full((10, 1), 0.7)
    set_from_data(net, x, MEAN, SPREAD)
    assert drive.weight.item() == pytest.approx(weight * SPREAD / SMALLEST_SPREAD)
    assert net(x).layers[0].current.detach().numpy() == pytest.approx(MEAN, abs=1e-4)


def test_the_readout_stays_as_it_was():
    task = TASKS["digits_3"]
    net = new_net(task, 0)
    before = [parameter.clone() for parameter in net.readout.parameters()]
    set_from_data(net, task.data().x_train[:50], MEAN, SPREAD)
    for old, new in zip(before, net.readout.parameters(), strict=True):
        assert torch.equal(old, new)
