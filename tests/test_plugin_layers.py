"""Which layers a ChaoticLoss finds: by name, glob, module or type, each once, through wrappers."""

import pytest
import torch
from helpers import assert_same, authors_loss, batch, network, records_kept, rewritten
from torch import nn

from csbp_core import LIF, ChaoticLoss


class Shared(nn.Module):
    """One module under two names, run twice."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(6, 6, dtype=torch.float64)
        self.fc2 = self.fc1

    def forward(self, x):
        return self.fc2(self.fc1(x))


# What finds them


@pytest.mark.parametrize(
    ("layers_of", "names"),
    [
        pytest.param(lambda model: "fc2", ["fc2"], id="name"),
        pytest.param(lambda model: ["lif1", "fc2"], ["lif1", "fc2"], id="names"),
        pytest.param(lambda model: "fc*", ["fc1", "fc2"], id="glob"),
        pytest.param(lambda model: "*1", ["fc1", "lif1"], id="glob over kinds"),
        pytest.param(lambda model: LIF, ["lif1", "lif2"], id="type"),
        pytest.param(lambda model: model.fc2, ["fc2"], id="module"),
        pytest.param(
            lambda model: ["lif2", model.fc1, LIF, "fc?"],
            ["lif2", "fc1", "lif1", "fc2"],
            id="all of them, in the order asked for",
        ),
        pytest.param(
            lambda model: (name for name in ("fc1", "fc1")),
            ["fc1"],
            id="generator, one name twice",
        ),
    ],
)
def test_layers_by_name_glob_module_and_type(layers_of, names):
    model = network()
    chaos = ChaoticLoss(1.0).attach(model, layers_of(model))
    assert list(chaos.report()) == names
    model(batch())
    assert records_kept(chaos) == [1] * len(names)


@pytest.mark.parametrize(
    "layers_of",
    [
        pytest.param(lambda model: "fc1", id="first name"),
        pytest.param(lambda model: "fc2", id="second name"),
        pytest.param(lambda model: ["fc1", "fc2"], id="both names"),
        pytest.param(lambda model: "fc*", id="glob"),
        pytest.param(lambda model: nn.Linear, id="type"),
        pytest.param(lambda model: model.fc1, id="module"),
    ],
)
def test_a_shared_module_is_one_layer(layers_of):
    model = Shared()
    x = batch()
    first = model.fc1(x)
    second = model.fc1(first)
    chaos = ChaoticLoss(10.0).attach(model, layers_of(model))
    model(x)
    assert_same(model, chaos(), authors_loss([torch.stack([first, second])]))


@pytest.mark.parametrize(
    ("layers", "name"), [("fc*", "fc1"), (["fc1", "fc2"], "fc1"), (["fc2", "fc1"], "fc2")]
)
def test_a_shared_module_goes_by_the_name_that_comes_first(layers, name):
    assert list(ChaoticLoss(10.0).attach(Shared(), layers).report()) == [name]


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(nn.DataParallel, id="DataParallel"),
        pytest.param(lambda model: torch.compile(model, backend="eager"), id="compile"),
    ],
)
def test_wrappers_are_looked_through(wrap):
    model = network()
    x = batch()
    wrapper = wrap(model)
    chaos = ChaoticLoss(10.0).attach(wrapper, ["fc1", model.fc2])
    assert list(chaos.report()) == ["fc1", "fc2"]
    wrapper(x)
    assert_same(model, chaos(), authors_loss(rewritten(model, x).currents))


# What is not there


@pytest.mark.parametrize(
    ("layers", "line"),
    [
        ("fc3", "^no layer 'fc3' in Sequential: did you mean fc[12], fc[12]"),
        (["fc1", "lif*3"], r"^no layer 'lif\*3' in Sequential: did you mean lif"),
        ("zzzz", "^no layer 'zzzz' in Sequential: it has fc1, lif1, fc2, lif2$"),
        (nn.Linear(6, 6), r"^no layer Linear\(.*\) in Sequential: it has fc1, lif1"),
        (nn.Conv3d, "^no layer <class .*Conv3d'> in Sequential: it has fc1"),
        ([], "^layers is empty"),
        (None, "^no layer None in Sequential: it has fc1"),
        ([3], "^no layer 3 in Sequential: it has fc1"),
    ],
)
def test_layers_that_are_not_there_are_refused_and_nothing_is_hooked(layers, line):
    model = network()
    chaos = ChaoticLoss(1.0)
    with pytest.raises(ValueError, match=line):
        chaos.attach(model, layers)
    assert not any(module._forward_hooks for module in model.modules())


# Once, and more than once


def test_attaching_twice_is_refused_as_a_whole():
    model = network()
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    line = r"^layer 'fc1' is attached already: remove\(\) first, or read something else$"
    with pytest.raises(ValueError, match=line):
        chaos.attach(model, ["fc2", "fc1"])
    model(x)
    assert_same(model, chaos(), authors_loss(rewritten(model, x).currents[:1]))


def test_a_shared_module_is_not_attached_twice():
    model = Shared()
    chaos = ChaoticLoss(1.0).attach(model, "fc1")
    with pytest.raises(ValueError, match="is attached already"):
        chaos.attach(model, "fc2")


def read_twice(model):
    """One layer with two reads, and three strengths: 6, the common 2, and none."""
    return (
        ChaoticLoss(2.0, beta=0.5)
        .attach(model, "lif1", "input", z=6.0)
        .attach(model, "lif1", "membrane")
        .attach(model, "fc2", z=0.0)
    )


def test_each_read_of_a_layer_has_its_own_strength():
    model = network()
    x = batch()
    chaos = read_twice(model)
    for factor in (1.0, 0.5, 0.25):
        model(x)
        known = rewritten(model, x)
        of_input = authors_loss(known.currents[:1], 6.0 * factor)
        of_membrane = authors_loss(known.before_reset[:1], 2.0 * factor)
        assert_same(model, chaos(), of_input + of_membrane)
        chaos.step()


def test_each_read_of_a_layer_is_reported_with_the_strength_it_was_measured_at():
    model = network()
    chaos = read_twice(model)
    for _ in range(3):  # only the first call is measured
        model(batch())
        chaos()
        assert [row["z"] for row in chaos.report().values()] == [6.0, 2.0, None]
        chaos.step()


def test_each_read_of_a_layer_is_reported_by_a_name_of_its_own():
    chaos = read_twice(network())
    assert list(chaos.report()) == ["lif1", "lif1 (membrane)", "fc2"]


def test_strengths_of_single_layers_leave_the_common_one():
    assert read_twice(network()).z == 2.0
