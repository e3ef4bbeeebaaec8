"""Which layers a ChaoticLoss finds: by name, glob, module or type, each once, through wrappers."""

import re

import pytest
import torch
from helpers import assert_same, authors_loss, batch, network, records_kept, rewritten
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from csbp_core import LIF, ChaoticLoss
from csbp_core.plugin.layers import find_layers, unwrapped


class Deep(nn.Module):
    """Layers inside layers, and names that look like one another."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        self.fc2 = nn.Linear(6, 6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(2))
        self.heads = nn.ModuleDict({"a": nn.Linear(6, 2), "b": nn.Linear(6, 2)})
        self.add_module("fc[12]", nn.Linear(6, 6))

    def forward(self, x):
        x = self.get_submodule("fc[12]")(self.fc2(self.fc1(x)))
        for block in self.blocks:
            x = block(x)
        return self.heads["a"](x) + self.heads["b"](x)


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


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("fc*", ["fc1", "fc2", "fc[12]"]),
        ("fc1*", ["fc1"]),
        ("fc1.*", ["fc1.0", "fc1.1"]),
        ("fc?", ["fc1", "fc2"]),
        ("fc[[]12]", ["fc[12]"]),
        ("fc[12]", ["fc[12]"]),
        ("fc[2-9]", ["fc2"]),
        ("*", ["fc1", "fc2", "fc[12]"]),
        ("blocks.*", ["blocks.0", "blocks.1"]),
        ("blocks.*.0", ["blocks.0.0", "blocks.1.0"]),
        ("*.*.0", ["blocks.0.0", "blocks.1.0"]),
        ("**.0", ["fc1.0", "blocks.0", "blocks.0.0", "blocks.1.0"]),
        ("blocks.**.1", ["blocks.0.1", "blocks.1", "blocks.1.1"]),
        ("heads.?", ["heads.a", "heads.b"]),
        ("**.fc2", ["fc2"]),
    ],
)
def test_a_star_stays_within_a_part_and_two_go_deeper(layers, names):
    model = Deep()
    x = batch(dtype=torch.float32)
    chaos = ChaoticLoss(1.0).attach(model, layers)
    assert list(chaos.report()) == names
    model(x)
    assert records_kept(chaos) == [1] * len(names)


def test_a_glob_counts_a_layer_once():
    model = Deep()
    x = batch(dtype=torch.float32)
    chaos = ChaoticLoss(10.0).attach(model, "fc1*")
    model(x)
    assert_same(model, chaos(), authors_loss([model.fc1(x)]), 1e-6)


def test_containers_that_never_run_are_passed_over():
    model = Deep()
    chaos = ChaoticLoss(1.0).attach(model, "**")
    names = list(chaos.report())
    assert "blocks.0.0" in names
    assert not {"blocks", "heads"} & set(names)
    model(batch(dtype=torch.float32))
    chaos()


@pytest.mark.parametrize("layers", ["blocks", "blo*", nn.ModuleList, "heads", nn.ModuleDict])
def test_a_container_that_never_runs_is_refused(layers):
    line = r"^layer '(blocks|heads)' is a Module(List|Dict), which never runs: name what is inside$"
    with pytest.raises(ValueError, match=line):
        ChaoticLoss(1.0).attach(Deep(), layers)


# Left out


@pytest.mark.parametrize(
    "exclude_of",
    [
        pytest.param(lambda model: "**.out_proj", id="glob"),
        pytest.param(lambda model: "self_attn.out_proj", id="name"),
        pytest.param(lambda model: model.self_attn.out_proj, id="module"),
        pytest.param(lambda model: type(model.self_attn.out_proj), id="type"),
        pytest.param(lambda model: ["self_attn.*", "linear1"][:1], id="list"),
    ],
)
def test_all_linear_layers_of_a_transformer_but_the_one_that_never_runs(exclude_of):
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(6, nhead=2, dim_feedforward=8, dropout=0.0)
    x = batch(dtype=torch.float32)
    chaos = ChaoticLoss(10.0).attach(model, nn.Linear, exclude=exclude_of(model))
    assert list(chaos.report()) == ["linear1", "linear2"]
    model(x)
    loss = chaos()
    h1 = model.norm1(x + model.self_attn(x, x, x)[0])
    first = model.linear1(h1)
    second = model.linear2(torch.relu(first))
    assert_same(model, loss, authors_loss([first, second]), 1e-5)


def test_the_message_of_a_layer_that_never_runs_says_how_to_leave_it_out():
    model = nn.TransformerEncoderLayer(6, nhead=2, dim_feedforward=8)
    chaos = ChaoticLoss(10.0).attach(model, nn.Linear)
    model(batch(dtype=torch.float32))
    with pytest.raises(ValueError, match=r"^layer 'self_attn.out_proj' .*attach\(\.\.\., exclude="):
        chaos()


def test_nothing_left_is_refused():
    with pytest.raises(ValueError, match=r"^exclude leaves no layer"):
        ChaoticLoss(1.0).attach(network(), "fc*", exclude=nn.Linear)


def test_a_shared_module_is_left_out_by_any_of_its_names():
    with pytest.raises(ValueError, match=r"^exclude leaves no layer"):
        ChaoticLoss(1.0).attach(Shared(), "fc1", exclude="fc2")


def test_what_is_left_out_must_be_there():
    with pytest.raises(ValueError, match=r"^no layer 'out_proj' in Sequential"):
        ChaoticLoss(1.0).attach(network(), "fc*", exclude="out_proj")


# Wrappers


def with_weight_norm():
    model = network(dtype=torch.float32)
    nn.utils.parametrizations.weight_norm(model.fc1)
    return model


def with_checkpoint_wrapper():
    model = network(dtype=torch.float32)
    model.fc1 = checkpoint_wrapper(model.fc1)
    return model


def with_compiled_layer():
    model = network(dtype=torch.float32)
    model.fc1 = torch.compile(model.fc1, backend="eager")
    return model


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "wrapped", [with_weight_norm, with_checkpoint_wrapper, with_compiled_layer]
)
@pytest.mark.parametrize("layers", ["fc1", "fc*", "fc?", nn.Linear, "**.fc*", ["fc1", nn.Linear]])
def test_the_inner_names_of_a_wrapper_are_not_needed(wrapped, layers):
    model = wrapped()
    x = batch(dtype=torch.float32)
    chaos = ChaoticLoss(10.0).attach(model, layers)
    first = model.fc1(x)
    second = model.fc2(model.lif1(first))
    for layer in chaos.layers:
        layer.forget()
    model(x)
    known = authors_loss([first] if layers == "fc1" else [first, second])
    assert_same(model, chaos(), known, 1e-5)
    assert list(chaos.report()) == (["fc1"] if layers == "fc1" else ["fc1", "fc2"])


@pytest.mark.parametrize("layers", ["fc1", nn.Linear])
def test_a_wrapper_and_the_layer_inside_are_one(layers):
    model = with_checkpoint_wrapper()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    with pytest.raises(ValueError, match=r"^layer 'fc1' is attached already"):
        chaos.attach(model, layers)
    with pytest.raises(ValueError, match=r"^layer 'fc1' is attached already"):
        ChaoticLoss(10.0).attach(model, nn.Linear).attach(model, "fc1")


@pytest.mark.parametrize("exclude", ["fc1", "*1", nn.Linear])
def test_a_wrapped_layer_is_left_out_by_its_plain_name(exclude):
    chaos = ChaoticLoss(10.0).attach(with_checkpoint_wrapper(), "*", exclude=exclude)
    assert "fc1" not in chaos.report()


@pytest.mark.usefixtures("fresh_compiler")
def test_inside_a_compiled_block_a_name_with_brackets_is_a_name():
    model = nn.Sequential(torch.compile(Deep(), backend="eager"))
    assert list(ChaoticLoss(1.0).attach(model, "0.fc[12]").report()) == ["0.fc[12]"]


@pytest.mark.parametrize("layers", ["**", nn.Module, "fc1.**", "**.[!p]*"])
def test_what_computes_a_weight_is_no_layer(layers):
    model = with_weight_norm()
    chaos = ChaoticLoss(1.0).attach(model, layers)
    assert "fc1" in chaos.report()
    assert not any("parametrizations" in name for name in chaos.report())
    model(batch(dtype=torch.float32))
    assert records_kept(chaos) == [1] * len(chaos.layers)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("layers", ["0.fc1", "*.fc1", "**.fc1", "0._orig_mod.fc1"])
def test_a_layer_inside_a_compiled_block_goes_by_its_plain_name(layers):
    block = network()
    model = nn.Sequential(torch.compile(block, backend="eager"))
    x = batch()
    chaos = ChaoticLoss(10.0).attach(model, layers)
    assert list(chaos.report()) == ["0.fc1"]
    model(x)
    assert_same(model, chaos(), authors_loss(rewritten(block, x).currents[:1]))


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
        (network(3), "^no layer of type Sequential in Sequential: it has fc1, lif1, fc2, lif2$"),
        ([torch.ones(99)], "^no layer of type Tensor in Sequential: it has fc1"),
        ("f*.c1", "^no layer 'f[*].c1' in Sequential: did you mean"),
        ("", "^no layer '' in Sequential: it has fc1"),
    ],
)
def test_layers_that_are_not_there_are_refused_and_nothing_is_hooked(layers, line):
    model = network()
    chaos = ChaoticLoss(1.0)
    with pytest.raises(ValueError, match=line):
        chaos.attach(model, layers)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_glob_that_would_have_gone_deeper_is_told_how():
    line = r"^no layer 'blocks\*0' in Deep: \* stays within one part of a dotted name, \*\* spans"
    with pytest.raises(ValueError, match=line):
        ChaoticLoss(1.0).attach(Deep(), "blocks*0")


@pytest.mark.parametrize("model", ["fc1", ["fc1"], nn.Linear, None, network])
def test_swapped_arguments_are_refused_in_one_line(model):
    with pytest.raises(ValueError, match=r"^model = .*attach\(model, layers\)$"):
        ChaoticLoss(1.0).attach(model, network())


def layers_named(*names):
    """A network with layers of these names."""
    return nn.ModuleDict({name: nn.Linear(1, 1) for name in names})


@pytest.mark.parametrize(
    ("names", "wanted", "suggested"),
    [
        (("fc1", "fc2", "fc3", "fc4"), "fc9", "fc4, fc3, fc2"),  # three, and no more
        (("abxyz", "zzzzz"), "abcd", "abxyz"),  # alike by 2 * 2 / 9 = 0.44
        (("conv1", "conv2"), "con1", "conv1, conv2"),  # the best comes first
    ],
)
def test_a_name_that_is_not_there_is_answered_by_the_three_most_alike(names, wanted, suggested):
    model = layers_named(*names)
    with pytest.raises(
        ValueError, match=f"^no layer '{wanted}' in ModuleDict: did you mean {suggested}$"
    ):
        ChaoticLoss(1.0).attach(model, wanted)


def test_names_that_are_not_alike_are_not_suggested():
    line = r"^no layer 'abcd' in ModuleDict: it has abvwxyz, zzzzz$"  # alike by 2 * 2 / 11 = 0.36
    with pytest.raises(ValueError, match=line):
        ChaoticLoss(1.0).attach(layers_named("abvwxyz", "zzzzz"), "abcd")


def test_of_many_names_a_message_lists_twenty():
    names = [f"layer{n:02}" for n in range(25)]
    line = f"^no layer 'zzzz' in ModuleDict: it has {', '.join(names[:20])}$"
    with pytest.raises(ValueError, match=line):
        ChaoticLoss(1.0).attach(layers_named(*names), "zzzz")


@pytest.mark.parametrize(
    ("layers", "exclude", "line"),
    [
        ([], (), "layers is empty: must be names, globs, modules or types"),
        ("fc1", "fc1", "exclude leaves no layer: must be names, globs, modules or types"),
        (["fc1", "fc2"], ["fc*"], "exclude leaves no layer: must be names, globs, modules or"),
    ],
)
def test_the_message_says_whether_anything_was_left_out(layers, exclude, line):
    with pytest.raises(ValueError, match=f"^{line}"):
        ChaoticLoss(1.0).attach(network(), layers, exclude=exclude)


@pytest.mark.parametrize(
    ("wanted", "described"),
    [
        (3, "3"),
        (2.5, "2.5"),
        (None, "None"),
        (nn.Conv1d, "<class 'torch.nn.modules.conv.Conv1d'>"),
        (nn.Tanh(), "Tanh()"),
        (nn.Sequential(nn.Tanh()), "of type Sequential"),
        (torch.ones(99), "of type Tensor"),
        (b"fc1", "of type bytes"),
    ],
)
def test_what_is_not_there_is_described_in_short(wanted, described):
    with pytest.raises(ValueError, match=rf"^no layer {re.escape(described)} in Sequential: it"):
        ChaoticLoss(1.0).attach(network(), [wanted])


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("a.b", "a.*", True),
        ("a.b.c", "a.*", False),
        ("a", "**", True),
        ("a.b.c", "**", True),
        ("a", "**.a", True),
        ("a.b", "a.b.**", True),
        ("a.b", "a.b.c.**", False),
        ("a.b.c", "a.**.c", True),
        ("a.c", "a.**.c", True),
        ("a.c.d", "a.**.c", False),
        ("a.b.c.d", "**.b.**", True),
        ("a.b", "**.**", True),
        ("b.a.a", "**.a.a", True),
        ("a.a.b", "**.a.a", False),
    ],
)
def test_a_glob_fits_part_by_part(name, pattern, fits):
    model = nn.Linear(1, 1)
    for part in reversed(name.split(".")):
        model = nn.ModuleDict({part: model})  # which never runs, so that the layer alone counts
    if fits:
        assert list(find_layers(model, pattern)) == [name]
    else:
        with pytest.raises(ValueError, match=r"^no layer|which never runs"):
            find_layers(model, pattern)


def test_wrappers_in_any_order_are_peeled_off():
    model = network()
    once = torch.compile(model, backend="eager")
    assert unwrapped(model) is model
    assert unwrapped(once) is model
    assert unwrapped(nn.DataParallel(once)) is model
    assert (
        unwrapped(torch.compile(nn.DataParallel(nn.DataParallel(model)), backend="eager")) is model
    )


def test_only_of_data_parallelism_a_part_called_module_is_a_wrapper():
    model = nn.Sequential(nn.DataParallel(nn.Linear(1, 1)), nn.ModuleDict({"module": nn.Tanh()}))
    chaos = ChaoticLoss(1.0).attach(model, "0").attach(model, "1.module")
    assert list(chaos.report()) == ["0", "1.module"]
    with pytest.raises(ValueError, match=r"^no layer '0.weight' in Sequential"):
        chaos.attach(model, "0.weight")


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
