import copy
import gc
import io
import math
import pickle
import weakref
from collections import OrderedDict

import pytest
import torch
from reference import _Spike, document_network
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

from csbp_core import LIF, ChaoticLoss, critical_z
from csbp_core.loss import largest_eigenvalue


def authors_loss(layers, z=10.0, reduction="mean", clamp=(-math.inf, math.inf)):
    """The published expression on every layer's h, clamped as in the authors' training code, added up over layers."""
    total = 0.0
    for h in layers:
        h = torch.where(h < clamp[0], clamp[0], torch.where(h > clamp[1], clamp[1], h))
        s = torch.sigmoid(h / 10)
        total = total + getattr(-z * (0.65 * torch.log(s) + (1 - 0.65) * torch.log(1 - s)), reduction)()
    return total


def assert_same(model, ours, theirs, tolerance=1e-12):
    """Two losses and their gradients; what a tensor's gradient may differ by is relative to its largest element."""
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    parameters = [p for p in model.parameters() if p.requires_grad]
    pairs = [torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in (ours, theirs)]
    assert any(known is not None and known.abs().max() > 0 for known in pairs[1])
    for gradient, known in zip(*pairs, strict=True):
        if known is None:
            assert gradient is None or not gradient.any()
        else:
            torch.testing.assert_close(gradient, known, rtol=0, atol=tolerance * known.abs().max().item())


def network(depth=2, store_v_seq=True, width=6, dtype=torch.float64, gain=6.0):
    """fc1, lif1, fc2, lif2, ...: currents large enough to spike and to leave the authors' clamp."""
    torch.manual_seed(depth)
    layers = OrderedDict[str, nn.Module]()
    for i in range(1, depth + 1):
        layers[f"fc{i}"], layers[f"lif{i}"] = nn.Linear(width, width, dtype=dtype), LIF(store_v_seq=store_v_seq)
        nn.init.normal_(layers[f"fc{i}"].weight, std=gain / math.sqrt(width))
    return nn.Sequential(layers)


def rewritten(model, x):
    """`network` with a forward that returns what is inside: output, currents, potentials before and after the reset."""
    currents, before, after = {}, {}, {}
    for i in range(1, len(model) // 2 + 1):
        fc, v, k, spikes, sequence = model.get_submodule(f"fc{i}"), 0.0, 0.0, [], []
        currents[i] = x @ fc.weight.T + fc.bias
        for current in currents[i]:
            v = v * 0.5 * (1 - k) + current
            k = _Spike.apply(v - 1)
            spikes.append(k)
            sequence.append(v)
        x, before[i], after[i] = torch.stack(spikes), torch.stack(sequence), v * (1 - k)
    return x, list(currents.values()), list(before.values()), list(after.values())


def batch(T=4, N=3, width=6, dtype=torch.float64, seed=0):
    return torch.randn(T, N, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def kept(chaos):
    """Tensors that the layers hold on to."""
    return [len(layer.records) for layer in chaos.layers]


def of(layers, model):
    """What a test means by layers: a function of the model, or themselves."""
    return layers(model) if callable(layers) and not isinstance(layers, type | nn.Module) else layers


# formula


@pytest.mark.parametrize(
    ("layers", "read", "store_v_seq", "inner"),
    [("fc*", "output", False, 1), ("lif*", "membrane", True, 2), ("lif*", "membrane", False, 3), ("lif*", "input", False, 1)],
)
@pytest.mark.parametrize(("reduction", "clamp"), [("mean", (-10.0, 9.9)), ("sum", None)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("depth", [2, 20])
def test_loss_and_gradients_are_the_authors(layers, read, store_v_seq, inner, reduction, clamp, dtype, tolerance, depth):
    model, x = network(depth, store_v_seq, dtype=dtype), batch(dtype=dtype)
    chaos = ChaoticLoss(10.0, reduction=reduction, clamp=clamp).attach(model, layers, read)
    known = rewritten(model, x)
    assert max(h.max() for h in known[1]) > 9.9
    ours = model(x).mean() + chaos()
    theirs = known[0].mean() + authors_loss(known[inner], 10.0, reduction, clamp or (-math.inf, math.inf))
    assert_same(model, ours, theirs, tolerance)


@pytest.mark.parametrize(("layer", "read", "inner"), [("0", "output", 1), ("2", "membrane", 2)])
def test_the_documents_network_and_sum(layer, read, inner):
    torch.manual_seed(0)
    image = 3 * torch.rand(2, 3, 16, 16, dtype=torch.float64)
    conv, fc = nn.Conv2d(3, 8, 1, dtype=torch.float64), nn.Linear(2048, 10, dtype=torch.float64)
    model = nn.Sequential(conv, nn.Unflatten(0, (8, 2)), LIF(decay=0.5), nn.Flatten(2), fc)
    chaos = ChaoticLoss(10.0, reduction="sum").attach(model, layer, read)
    out = model(image.repeat(8, 1, 1, 1)).mean(0)
    known = document_network(image, conv, fc, 8)
    assert_same(model, out.sum() + chaos(), known[0].sum() + authors_loss(known[inner : inner + 1], reduction="sum"))


def test_mean_runs_over_all_elements_of_runs_of_any_size():
    fc, inputs = nn.Linear(6, 6, dtype=torch.float64), [batch(N=n, seed=n) for n in (1, 2, 5)]
    h = torch.cat([fc(x).flatten() for x in inputs])
    chaos = ChaoticLoss(10.0).attach(fc, fc)
    for x in inputs:
        fc(x)
    assert_same(fc, chaos(), authors_loss([h]))


def test_what_is_read_of_tuples_keywords_and_by_a_function():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6, dtype=torch.float64)
            self.inner = nn.Identity()

        def forward(self, x):
            self.fc(input=x)
            return self.inner((2 * x, x))

    model, x = Pair(), batch().requires_grad_()
    known = authors_loss([x, 2 * x, model.fc(x) * x + model.fc.bias])
    chaos = ChaoticLoss(10.0).attach(model, "fc", "input").attach(model, "inner")
    chaos.attach(model, "fc", lambda module, inputs, output: output * inputs[0] + module.bias)
    model(x)
    assert_same(model, chaos(), known)


def test_a_layer_that_is_overwritten_in_place_is_refused():
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(inplace=True))
    chaos = ChaoticLoss(10.0).attach(model, "0")
    model(batch(dtype=torch.float32))
    with pytest.raises(ValueError, match=r"^layer '0' .*in place"):
        chaos()


# selection


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ("fc2", ["fc2"]),
        (["lif1", "fc2"], ["lif1", "fc2"]),
        ("fc*", ["fc1", "fc2"]),
        ("*1", ["fc1", "lif1"]),
        (LIF, ["lif1", "lif2"]),
        (lambda model: model.fc2, ["fc2"]),
        (lambda model: ["lif2", model.fc1, LIF, "fc?"], ["lif2", "fc1", "lif1", "fc2"]),
        (lambda model: (name for name in ("fc1", "fc1")), ["fc1"]),
    ],
)
def test_layers_by_name_glob_module_and_type(layers, names):
    model = network()
    chaos = ChaoticLoss(1.0).attach(model, of(layers, model))
    assert list(chaos.report()) == names
    model(batch())
    assert kept(chaos) == [1] * len(names)


@pytest.mark.parametrize(
    ("layers", "line"),
    [
        ("fc3", "^no layer 'fc3' in Sequential: did you mean fc[12], fc[12]"),
        (["fc1", "lif*3"], r"^no layer 'lif\*3' in Sequential: did you mean lif"),
        ("zzzz", "^no layer 'zzzz' in Sequential: it has fc1, lif1, fc2, lif2$"),
        (nn.Linear(6, 6), r"^no layer Linear\(.*\) in Sequential: it has fc1, lif1"),
        (nn.Conv3d, "^no layer <class .*Conv3d'> in Sequential: it has fc1"),
        ([], "^layers is empty"),
    ],
)
def test_refuses_layers_that_are_not_there(layers, line):
    model = network()
    chaos = ChaoticLoss(1.0)
    with pytest.raises(ValueError, match=line):
        chaos.attach(model, layers)
    assert not any(module._forward_hooks for module in model.modules())


def test_attaching_twice_is_refused_as_a_whole():
    model, x = network(), batch()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    with pytest.raises(ValueError, match=r"^layer 'fc1' is attached already: remove\(\) first, or read something else$"):
        chaos.attach(model, ["fc2", "fc1"])
    model(x)
    assert_same(model, chaos(), authors_loss(rewritten(model, x)[1][:1]))


def test_two_reads_of_one_layer_and_strengths_of_their_own():
    model, x = network(), batch()
    chaos = (
        ChaoticLoss(2.0, beta=0.5)
        .attach(model, "lif1", "input", z=6.0)
        .attach(model, "lif1", "membrane")
        .attach(model, "fc2", z=0.0)
    )
    assert chaos.z == 2.0
    for factor in (1.0, 0.5, 0.25):
        model(x)
        _, currents, before, _ = rewritten(model, x)
        known = authors_loss(currents[:1], 6.0 * factor) + authors_loss(before[:1], 2.0 * factor)
        assert_same(model, chaos(), known)
        assert [m["z"] for m in chaos.report().values()] == [6.0, 2.0, None]
        chaos.step()
    assert list(chaos.report()) == ["lif1", "lif1 (membrane)", "fc2"]


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = self.fc2 = nn.Linear(6, 6, dtype=torch.float64)

    def forward(self, x):
        return self.fc2(self.fc1(x))


@pytest.mark.parametrize(
    "layers",
    ["fc1", "fc2", ["fc1", "fc2"], "fc*", nn.Linear, lambda model: model.fc1],
)
def test_a_shared_module_is_one_layer(layers):
    model, x = Shared(), batch()
    h = model.fc1(x)
    known = authors_loss([torch.stack([h, model.fc1(h)])])
    chaos = ChaoticLoss(10.0).attach(model, of(layers, model))
    model(x)
    assert_same(model, chaos(), known)


def test_a_shared_module_is_not_attached_twice():
    model = Shared()
    with pytest.raises(ValueError, match="is attached already"):
        ChaoticLoss(1.0).attach(model, "fc1").attach(model, "fc2")


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")])
def test_wrappers_are_looked_through(wrap):
    model, x = network(), batch()
    wrapper = wrap(model)
    chaos = ChaoticLoss(10.0).attach(wrapper, ["fc1", model.fc2])
    assert list(chaos.report()) == ["fc1", "fc2"]
    wrapper(x)
    assert_same(model, chaos(), authors_loss(rewritten(model, x)[1]))


# annealing


def test_strength_after_n_steps():
    model, x = network(), batch()
    chaos = ChaoticLoss(10.0, beta=0.9).attach(model, "fc1")
    for n in range(8):
        assert chaos.z == chaos.z_at(n) == pytest.approx(10.0 * 0.9**n, rel=1e-15)
        model(x)
        assert chaos().item() == pytest.approx(authors_loss(rewritten(model, x)[1][:1], 10.0 * 0.9**n).item(), rel=1e-12)
        chaos.step()
    assert chaos.z_at(chaos.half_life) == pytest.approx(5.0, rel=1e-12)
    assert ChaoticLoss(1.0, beta=0.5).half_life == 1.0
    assert ChaoticLoss(1.0).half_life == math.inf


def test_below_the_cutoff_a_layer_is_not_even_read():
    model, x, runs = network(), batch(), []
    chaos = ChaoticLoss(1.0, beta=0.5, cutoff=0.2).attach(model, "fc1", lambda module, inputs, output: runs.append(1) or output)
    chaos.attach(model, "fc2", z=4.0)
    for n, z in enumerate([1.0, 0.5, 0.25, 0.0, 0.0, 0.0]):
        assert chaos.z == chaos.z_at(n) == z
        model(x)
        assert len(runs) == min(n + 1, 3)
        currents = rewritten(model, x)[1]
        z2 = 4.0 * 0.5**n if n < 5 else 0.0
        assert chaos().item() == pytest.approx(
            (authors_loss(currents[:1], z) + authors_loss(currents[1:], z2)).item(), rel=1e-12
        )
        chaos.step()
    model(x)
    assert kept(chaos) == [0, 0]


def test_a_step_forgets_what_was_not_used():
    model, x = network(), batch()
    chaos = ChaoticLoss(1.0, beta=0.5, cutoff=0.9).attach(model, "fc1")
    model(x)
    chaos.step()
    assert kept(chaos) == [0]
    assert chaos() == 0


def train(model, optimizer, chaos, steps):
    for n in steps:
        optimizer.zero_grad()
        loss = model(batch(seed=n)).var() + chaos()
        loss.backward()
        optimizer.step()
        chaos.step()


def test_resume_is_exact():
    def fresh(z, beta):
        model = network()
        chaos = ChaoticLoss(z, beta, clamp=(-10, 9.9)).attach(model, "fc1").attach(model, "lif2", "membrane", z=z / 2)
        return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), chaos

    whole, half = fresh(20.0, 0.93), fresh(20.0, 0.93)
    start = whole[0].fc1.weight.detach().clone()
    train(*whole, range(25))
    train(*half, range(10))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in half], file)
    file.seek(0)
    resumed = fresh(1.0, 0.5)  # all of it comes from the file
    for part, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    assert repr(resumed[2]) == repr(half[2])
    train(*resumed, range(10, 25))
    assert (start - whole[0].fc1.weight).abs().max() > 0.01
    for expected, weight in zip(whole[0].parameters(), resumed[0].parameters(), strict=True):
        assert torch.equal(weight, expected)
    assert resumed[2].state_dict() == whole[2].state_dict()
    assert resumed[2].report() == whole[2].report()  # measured at the same call


def test_a_state_switches_layers_off_and_on():
    model, x = network(), batch()
    chaos = ChaoticLoss(1.0, beta=0.5, cutoff=0.4).attach(model, "fc1")
    early = chaos.state_dict()
    chaos.step()
    chaos.step()
    late = chaos.state_dict()
    for state, records in ((early, [1]), (late, [0])):
        chaos.load_state_dict(state)
        model(x)
        assert kept(chaos) == records


@pytest.mark.parametrize(
    ("layers", "read"),
    [
        (["fc1"], "output"),
        (["fc2", "fc1"], "output"),
        (["fc1", "fc2"], "input"),
    ],
)
def test_state_of_other_layers_is_refused(layers, read):
    model = network()
    state = ChaoticLoss(10.0, beta=0.5).attach(model, ["fc1", "fc2"]).state_dict()
    other = ChaoticLoss(1.0).attach(model, layers, read)
    with pytest.raises(ValueError, match=r"^state of layers .*fc1.*fc2.*attached are"):
        other.load_state_dict(state)
    assert other.z == 1.0


# report


def by_hand(model, x, z):
    """Per layer: mean of s, and the chaotic loss's share of the gradient of h, by autograd."""
    out, currents, _, _ = rewritten(model, x)
    rest, expected = out.var(), []
    terms = [authors_loss([h], z) for h in currents]
    for h, own in zip(currents, terms, strict=True):
        others = rest + sum(term for term in terms if term is not own)
        c, r = (torch.autograd.grad(loss, h, retain_graph=True)[0].norm().item() for loss in (own, others))
        expected.append((torch.sigmoid(h / 10).mean().item(), c / (c + r)))
    return expected


@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu", init_scale=2.0**16)])
def test_report_is_what_autograd_says(scaler):
    model, x = network(), batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    assert chaos.report()["fc1"] == {
        "step": None, "z": None, "mean_s": None, "I0": 0.65, "gradient_share": None, "z_over_critical": None,
        "warning": None,
    }  # fmt: skip
    loss = model(x).var() + chaos()
    assert chaos.report()["fc1"]["gradient_share"] is None
    (scaler.scale(loss) if scaler else loss).backward()
    limit = critical_z(2.5, lr=0.1, reduction="mean", numel=72)
    chaos.limits = {"fc2": limit}
    report = chaos.report()
    for m, (mean_s, share) in zip(report.values(), by_hand(model, x, 3.0), strict=True):
        assert 0.01 < share < 0.99
        assert m["mean_s"] == pytest.approx(mean_s, rel=1e-6)
        assert m["gradient_share"] == pytest.approx(share, rel=1e-6)
        assert (m["step"], m["z"], m["I0"]) == (0, 3.0, 0.65)
    assert report["fc1"]["z_over_critical"] is None
    assert report["fc2"]["z_over_critical"] == pytest.approx(3.0 / limit)


def test_report_adds_up_the_runs_of_a_layer():
    fc, inputs = nn.Linear(6, 6, dtype=torch.float64), [batch(seed=n) for n in range(3)]
    chaos = ChaoticLoss(3.0).attach(fc, fc)
    out = torch.stack([fc(x) for x in inputs])
    (out.var() + chaos()).backward()
    h = out.detach().requires_grad_()
    c, r = (torch.autograd.grad(loss, h)[0].norm().item() for loss in (authors_loss([h], 3.0), h.var()))
    (m,) = chaos.report().values()
    assert m["gradient_share"] == pytest.approx(c / (c + r), rel=1e-6)
    assert m["mean_s"] == pytest.approx(torch.sigmoid(h / 10).mean().item(), rel=1e-6)


def test_report_is_measured_at_every_20th_call():
    model, x, steps = network(), batch(), []
    chaos = ChaoticLoss(3.0, beta=0.9).attach(model, "fc*")
    for _ in range(42):
        (model(x).var() + chaos()).backward()
        steps.append(chaos.report()["fc1"]["step"])
        chaos.step()
    assert steps == [0] * 20 + [20] * 20 + [40] * 2
    assert chaos.report()["fc2"]["z"] == pytest.approx(3.0 * 0.9**40)
    assert chaos.report()["fc2"]["gradient_share"] == pytest.approx(by_hand(model, x, 3.0 * 0.9**40)[1][1], rel=1e-6)


@pytest.mark.parametrize("logged_only", [True, False])
def test_a_chaotic_loss_with_its_own_backward_pass_or_none(logged_only):
    model, x = network(), batch()
    chaos = ChaoticLoss(3.0).attach(model, "lif2", "input")
    out = model(x)
    loss = chaos()
    out.var().backward(retain_graph=True)
    if not logged_only:
        loss.backward()
    share = 0.0 if logged_only else by_hand(model, x, 3.0)[1][1]
    assert chaos.report()["lif2"]["gradient_share"] == pytest.approx(share, rel=1e-6)


# critical z


class Flat(nn.Sequential):
    def forward(self, x):  # [T, N, C, H, W]
        return super().forward(x.flatten(0, 1))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_critical_z_of_attached_layers(reduction):
    torch.manual_seed(0)
    model = Flat(
        nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 6, 1, groups=2, bias=False), nn.Flatten(), nn.Linear(54, 5)
    ).double()
    x, linear = torch.randn(2, 3, 3, 7, 7).double(), {"0": None, "1": None, "3": None}
    chaos = ChaoticLoss(3.0, reduction=reduction).attach(model, list(linear))
    weights, hooks_before = [p.clone() for p in model.parameters()], hooks(model)
    (model(x).var() + chaos()).backward()
    h, found = x.flatten(0, 1), chaos.critical_z(0.1, momentum=0.5)
    assert kept(chaos) == [0, 0, 0]  # the power iteration leaves no record
    for name, layer in model.named_children():
        if name in linear:
            size, groups = (layer.kernel_size, layer.groups) if name != "3" else ((1, 1), 1)
            image = h if h.dim() == 4 else h[..., None, None]
            stride = layer.stride if name != "3" else 1
            parts = [nn.functional.unfold(part, size, stride=stride) for part in image.chunk(groups, 1)]
            rows = [part.transpose(1, 2).reshape(-1, part.shape[1]) for part in parts]
            rows = [torch.cat([r, torch.ones(len(r), 1)], 1) if layer.bias is not None else r for r in rows]
            largest = max(torch.linalg.eigvalsh(r.T @ r)[-1].item() for r in rows)
            assert largest_eigenvalue(layer, [h]) == pytest.approx(largest, rel=1e-5)
            known = critical_z(largest, 0.1, 0.5, reduction=reduction, numel=layer(h).numel())
            assert found[name] == pytest.approx(known, rel=1e-5)
        h = layer(h).detach()
    assert hooks(model) == hooks_before
    assert all(torch.equal(*pair) for pair in zip(weights, model.parameters(), strict=True))
    assert chaos.report()["3"]["z_over_critical"] == pytest.approx(3.0 / found["3"])


def test_critical_z_takes_the_optimizer_and_says_where_it_does_not_hold():
    model, x = network(), batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc1").attach(model, "lif1", "membrane").attach(model, "fc2", "input")
    assert chaos.critical_z(0.1)["fc1"].startswith("unknown: its inputs are measured in an uncompiled training step")
    (model(x).var() + chaos()).backward()
    found = chaos.critical_z(torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.6))
    assert found["fc1"] == pytest.approx(chaos.critical_z(0.2, 0.6)["fc1"])
    assert found["fc1"] > 0
    for name in ("lif1", "fc2"):
        assert found[name] == "unknown: only the output of a linear or convolutional layer has a formula"
    for optimizer in (
        torch.optim.Adam(model.parameters()),
        torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    ):
        assert all(
            value.startswith(f"unknown: {type(optimizer).__name__} is not") for value in chaos.critical_z(optimizer).values()
        )
    assert chaos.report()["fc1"]["z_over_critical"] is None


def trained(z, steps=60):
    """The digits, 64-64-10, trained by gradient descent with a chaotic loss; accuracy and the last report."""
    from study.train import TASKS, new_net

    task, torch_threads = TASKS["digits_1"], torch.get_num_threads()
    torch.set_num_threads(1)
    data, model = task.data(), new_net(task, 0)
    chaos = ChaoticLoss(z).attach(model, "hidden.*")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for n in range(steps):
        rows = slice(50 * (n % 20), 50 * (n % 20 + 1))
        optimizer.zero_grad()
        (nn.functional.cross_entropy(model(data.x_train[rows])[0], data.y_train[rows]) + chaos()).backward()
        optimizer.step()
    torch.set_num_threads(torch_threads)
    return (model.eval()(data.x_val)[0].argmax(1) == data.y_val).double().mean().item(), chaos.report()["hidden.0"]


def test_a_strength_ten_times_too_large_is_reported():
    (good, silent), (lost, told) = trained(15.0), trained(150.0)
    assert good > 0.85
    assert silent["warning"] is None
    assert trained(150.0, 21)[1]["warning"]  # at the second measurement already
    assert lost < 0.3
    assert told["warning"].startswith("z = 150 is too large: ")


def test_a_strength_above_the_critical_one_is_reported():
    model = nn.Linear(4, 3)
    chaos = ChaoticLoss(100.0, reduction="sum").attach(model, model)
    (model(torch.randn(50, 4)).var() * 1e6 + chaos()).backward()
    (limit,) = chaos.critical_z(1.0).values()
    (row,) = chaos.report().values()
    assert row["z_over_critical"] == 100.0 / limit > 1
    assert "times the critical z" in row["warning"]


# hook lifetime


def test_eval_and_no_grad_leave_nothing():
    model, x = network(), batch()
    chaos = ChaoticLoss(10.0).attach(model, ["fc1", "fc2"])
    with torch.no_grad():
        for _ in range(100):
            model(x)
        assert kept(chaos) == [0, 0]
        assert chaos() == 0
    model.eval()
    model(x)  # with gradients
    assert kept(chaos) == [0, 0]
    assert chaos() == 0
    with torch.no_grad():
        model(x)
    model.train()
    model(x)
    assert_same(model, chaos(), authors_loss(rewritten(model, x)[1]))
    model.fc2.eval()  # one frozen layer
    model(x)
    assert_same(model, chaos(), authors_loss(rewritten(model, x)[1][:1]))


def test_called_under_no_grad_it_is_zero_and_forgets():
    model, x = network(), batch()
    chaos = ChaoticLoss(10.0).attach(model, "fc*")
    model(x)
    with torch.no_grad():
        assert chaos() == 0
    assert kept(chaos) == [0, 0]


def test_a_call_clears_the_records_and_nothing_holds_the_graph():
    model, x, seen = network(), batch(), []
    chaos = ChaoticLoss(10.0).attach(model, "fc1", lambda module, inputs, output: seen.append(weakref.ref(output)) or output)
    for _ in range(3):  # a stale record would fail: its graph is gone
        loss = model(x).var() + chaos()
        assert kept(chaos) == [0]
        assert_same(model, loss, rewritten(model, x)[0].var() + authors_loss(rewritten(model, x)[1][:1]))
        loss.backward()
    del loss
    for lif in (model.lif1, model.lif2):  # they hold on to their graph, too
        lif.v = lif.v_seq = None
    gc.collect()
    assert [ref() for ref in seen] == [None] * 3


def hooks(model):
    return [
        (list(module._forward_hooks.items()), list(module._forward_hooks_with_kwargs.items())) for module in model.modules()
    ]


def test_remove_leaves_the_model_as_it_was():
    model, x, calls = network(), batch(), []
    model.fc1.register_forward_hook(lambda module, args, output: calls.append("mine"))
    model.lif2.register_forward_hook(lambda module, args, kwargs, output: calls.append("mine"), with_kwargs=True)
    before = hooks(model)
    chaos = ChaoticLoss(10.0).attach(model, ["fc1", "lif2"]).attach(model, "lif2", "membrane")
    assert hooks(model) != before
    model(x)
    chaos.remove()
    assert hooks(model) == before
    assert chaos.report() == {}
    model(x)
    assert calls == ["mine"] * 4
    with pytest.raises(ValueError, match=r"^no layers: attach"):
        chaos()
    with chaos.attach(model, "fc1") as entered:  # again, and for the length of a with
        assert entered is chaos
        model(x)
        assert_same(model, chaos(), authors_loss(rewritten(model, x)[1][:1]))
    assert hooks(model) == before
    with pytest.raises(ZeroDivisionError), chaos.attach(model, "fc1"):
        1 / 0  # noqa: B018
    assert hooks(model) == before


def torch_saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), torch_saved])
def test_copies_are_not_attached(twin_of):
    model, x = network(), batch()
    chaos = ChaoticLoss(10.0).attach(model, "fc1").attach(model, "lif2", "membrane")
    model(x)
    twin = twin_of(model)
    twin(x)
    assert kept(chaos) == [1, 1]
    assert not any(hook.records for module in twin.modules() for hook in module._forward_hooks.values())
    _, currents, before, _ = rewritten(model, x)
    assert_same(model, chaos(), authors_loss([currents[0], before[1]]))
    again = ChaoticLoss(10.0).attach(twin, "fc1").attach(twin, "lif2", "membrane")
    twin(x)
    _, currents, before, _ = rewritten(twin, x)
    assert_same(twin, again(), authors_loss([currents[0], before[1]]))


@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, lambda chaos: pickle.loads(pickle.dumps(chaos))], ids=["deepcopy", "pickle"]
)
def test_a_copied_chaotic_loss_can_be_removed_and_reports_by_the_same_names(twin_of):
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1").attach(model, "fc1", "input")
    with twin_of(chaos) as twin:
        assert list(twin.report()) == list(chaos.report()) == ["fc1", "fc1 (input)"]
    assert not twin.layers
    model(batch())
    assert kept(chaos) == [1, 1]


def test_a_chaotic_loss_that_nobody_holds_leaves_the_model():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    chaos = ChaoticLoss(10.0).attach(model, "fc1")  # the cell of a notebook, run again
    gc.collect()
    assert len(model.fc1._forward_hooks) == 1
    model(batch())
    assert kept(chaos) == [1]


@pytest.mark.parametrize("store_v_seq", [True, False])
def test_what_nothing_else_reads_has_no_share_and_no_warning(store_v_seq):
    model, x = network(store_v_seq=store_v_seq), batch()
    chaos = ChaoticLoss(1e-9).attach(model, "lif2", "membrane").attach(model, "fc1")
    (model(x).square().sum() + chaos()).backward()
    membrane, current = chaos.report().values()
    assert membrane["gradient_share"] is membrane["warning"] is None
    assert 0 < current["gradient_share"] < 1e-3


def test_removing_forgets_the_limits():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    model(batch())
    chaos().backward()
    chaos.critical_z(0.1)
    chaos.remove()
    assert chaos.attach(network(), "fc1").report()["fc1"]["z_over_critical"] is None
    assert not chaos.limits


def test_critical_z_of_layers_with_other_hooks():
    model = network()
    chaos = ChaoticLoss(10.0).attach(model, "fc1")
    model(batch())
    chaos().backward()
    plain = chaos.critical_z(0.1)
    model.fc1.register_full_backward_hook(lambda *_: None)
    model.fc1.register_forward_hook(lambda module, args, output: 2 * output)  # not part of the layer, and not to be run
    assert chaos.critical_z(0.1) == plain


def test_state_dict_of_the_model_does_not_change():
    model = network()
    names = list(model.state_dict())
    chaos = ChaoticLoss(1.0).attach(model, "*")
    assert list(model.state_dict()) == names
    assert len(chaos.layers) == len(list(model.named_modules())) - 1


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_checkpointed_layers_are_recorded_once(reduction):
    model = network(3)
    chaos = ChaoticLoss(3.0, beta=0.9, reduction=reduction).attach(model, "fc*").attach(model, "lif2", "membrane")
    for n in range(3):  # what the backward pass recorded would show in the next loss
        x = batch(seed=n)
        out = checkpoint(model[2:], checkpoint(model[:2], x, use_reentrant=False), use_reentrant=False)
        loss = out.var() + chaos()
        known, currents, before, _ = rewritten(model, x)
        chaos_known = authors_loss([*currents, before[1]], 3.0 * 0.9**n, reduction)
        assert_same(model, loss, known.var() + chaos_known)
        loss.backward()
        assert kept(chaos) == [0] * 4
        chaos.step()


def test_reentrant_checkpointing_is_refused():
    model, x = network(), batch().requires_grad_()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")
    checkpoint(model, x, use_reentrant=True)
    with pytest.raises(ValueError, match=r"^layer 'fc1' ran under no_grad: with checkpoint\(\) set use_reentrant=False$"):
        chaos()


def test_autocast_gives_a_float32_loss_close_to_the_exact_one():
    model, x, dtypes = network(dtype=torch.float32), batch(dtype=torch.float32), []
    chaos = ChaoticLoss(10.0, clamp=(-10, 9.9))
    chaos.attach(model, "fc1", lambda module, inputs, output: dtypes.append(output.dtype) or output)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
        loss = chaos()
    assert dtypes == [torch.bfloat16]
    assert loss.dtype == torch.float32
    known = authors_loss(rewritten(model, x)[1][:1], clamp=(-10, 9.9))
    assert loss.item() == pytest.approx(known.item(), rel=2**-8)
    ours, theirs = (torch.autograd.grad(value, model.fc1.weight)[0] for value in (loss, known))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.05 * theirs.abs().max().item())


@pytest.mark.parametrize("to_wrapper", [False, True])
def test_a_compiled_model_anneals_as_the_plain_one(to_wrapper):
    torch.compiler.reset()
    model = network()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    chaos = ChaoticLoss(3.0, beta=0.5, cutoff=1.0)
    chaos.attach(compiled if to_wrapper else model, "fc*").attach(model, "lif1", "membrane")
    for n, z in enumerate([3.0, 1.5, 0.0]):
        x = batch(seed=n)
        known, currents, before, _ = rewritten(model, x)
        assert_same(model, compiled(x).var() + chaos(), known.var() + authors_loss([*currents, before[0]], z))
        with torch.no_grad():
            compiled(x)
        assert kept(chaos) == [0] * 3
        chaos.step()
    chaos.remove()
    assert_same(model, compiled(x).var(), known.var())


def test_the_default_compiler():
    torch.compiler.reset()
    model, x = network(), batch(T=2)
    chaos = ChaoticLoss(3.0).attach(model, "fc*").attach(model, "lif1", "membrane")
    known, currents, before, _ = rewritten(model, x)
    loss = torch.compile(model, fullgraph=True)(x).var() + chaos()
    assert_same(model, loss, known.var() + authors_loss([*currents, before[0]], 3.0), 1e-11)


def test_attached_after_a_compiled_model_has_run():
    torch.compiler.reset()
    model, x = network(), batch()
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    chaos = ChaoticLoss(1.0).attach(compiled, "fc1")
    compiled(x)
    with pytest.raises(ValueError, match=r"attach before torch.compile"):
        chaos()


def test_gradient_share_of_a_compiled_model_is_right_or_unknown():
    torch.compiler.reset()
    model, x = network(), batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    (torch.compile(model, backend="aot_eager")(x).var() + chaos()).backward()
    for m, (_, share) in zip(chaos.report().values(), by_hand(model, x, 3.0), strict=True):
        assert m["gradient_share"] is None or m["gradient_share"] == pytest.approx(share, rel=1e-6)


def test_per_sample_gradients_by_vmap_equal_the_loop():
    model, xs = network(), torch.stack([batch(seed=n) for n in range(3)])
    chaos = ChaoticLoss(3.0).attach(model, "fc*").attach(model, "lif2", "membrane")
    parameters = dict(model.named_parameters())

    def loss(parameters, x):
        return functional_call(model, parameters, (x,)).var() + chaos()

    together = vmap(grad(loss), (None, 0))(parameters, xs)
    losses = vmap(loss, (None, 0))({name: p.detach() for name, p in parameters.items()}, xs)
    for n, x in enumerate(xs):
        out, currents, before, _ = rewritten(model, x)
        known_loss = out.var() + authors_loss([*currents, before[1]], 3.0)
        assert losses[n].item() == pytest.approx(known_loss.item(), rel=1e-12)
        known = torch.autograd.grad(known_loss, list(parameters.values()))
        alone = grad(loss)(parameters, x)
        for name, expected in zip(parameters, known, strict=True):
            for value in (together[name][n], alone[name]):
                torch.testing.assert_close(value, expected, rtol=0, atol=1e-12 * expected.abs().max().item())


@pytest.mark.parametrize(
    "transform",
    [
        grad,
        lambda f: vmap(grad(f), (None, 0)),
        lambda f: vmap(f, (None, 0)),
    ],
)
def test_report_after_a_transformed_function_that_measured(transform):
    model, x = network(), batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")

    def loss(parameters, x):
        return functional_call(model, parameters, (x,)).var() + chaos()

    transform(loss)(dict(model.named_parameters()), torch.stack([x, x]) if transform is not grad else x)
    for m, (mean_s, share) in zip(chaos.report().values(), by_hand(model, x, 3.0), strict=True):
        assert m["mean_s"] is None or m["mean_s"] == pytest.approx(mean_s, rel=1e-6)
        assert m["gradient_share"] is None or m["gradient_share"] == pytest.approx(share, rel=1e-6)


@pytest.mark.parametrize("transform", [grad, lambda f: vmap(f, (None, 0))])
def test_called_outside_a_transformed_function(transform):
    model, x = network(), batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc1")
    x = x if transform is grad else torch.stack([x, x])
    transform(lambda parameters, x: functional_call(model, parameters, (x,)).var())(dict(model.named_parameters()), x)
    with pytest.raises(ValueError, match=r"^layer 'fc1' ran inside vmap or torch.func.grad: call the chaotic loss inside"):
        chaos()


def test_a_layer_that_did_not_run():
    model, x = network(), batch()
    chaos = ChaoticLoss(3.0).attach(model, "fc*")
    with pytest.raises(ValueError, match=r"^layer 'fc1' did not run in training mode since the last call: run the model"):
        chaos()
    model.fc1(x)
    with pytest.raises(ValueError, match=r"^layer 'fc2' did not run"):
        chaos()
    model(x)
    chaos()
    with pytest.raises(ValueError, match=r"^layer 'fc1' did not run"):
        chaos()
    model.eval()(x)
    assert chaos() == 0
    with pytest.raises(ValueError, match=r"^layer 'fc1' did not run"):
        chaos()


@pytest.mark.parametrize(("layer", "read"), [("fc1", "output"), ("lif1", "membrane"), ("fc1", "input")])
def test_a_record_without_gradient(layer, read):
    model, x = network(), batch()
    model.fc1.requires_grad_(read == "input")
    chaos = ChaoticLoss(3.0).attach(model, layer, read)
    model(x)
    with pytest.raises(ValueError, match=f"^layer '{layer}' gave {read} without a gradient: nothing before it is trained"):
        chaos()
    model(x.requires_grad_())
    chaos().backward()
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("layers", "read", "line"),
    [
        ("fc1", "membrane", r"^layer 'fc1' \(Linear\) has no membrane that is a float tensor: attach to the neuron"),
        ("fc1", lambda module, inputs, output: None, r"^layer 'fc1' \(Linear\) has no .* that is a float tensor"),
        ("fc1", lambda module, inputs, output: output > 0, r"^layer 'fc1' \(Linear\) has no .* that is a float tensor"),
        ("fc1", lambda module, inputs, output: [output], r"^layer 'fc1' \(Linear\) has no .* that is a float tensor"),
    ],
)
def test_nothing_to_read(layers, read, line):
    model, x = network(), batch()
    chaos = ChaoticLoss(1.0).attach(model, layers, read)
    with pytest.raises(ValueError, match=line):
        model(x)
    assert not kept(chaos)[0]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"z": -1.0}, r"^z = -1.0: must be a number in \[0, inf\)$"),
        ({"z": math.nan}, r"^z = nan: must be a number in \[0, inf\)$"),
        ({"z": "10"}, r"^z = '10': must be a number"),
        ({"beta": 0.0}, r"^beta = 0.0: must be a number in \(0, 1\]$"),
        ({"beta": 1.01}, r"^beta = 1.01: must be a number in \(0, 1\]$"),
        ({"I0": 1.0}, r"^I0 = 1.0: must be a number in \(0, 1\)$"),
        ({"scale": 0}, r"^scale = 0: must be a number in \(0, inf\)$"),
        ({"cutoff": -0.1}, r"^cutoff = -0.1: must be a number in \[0, inf\)$"),
        ({"reduction": "none"}, "^reduction = 'none': must be one of mean, sum$"),
        ({"clamp": (9.9, -10)}, r"^clamp = \(9.9, -10\): must be \(low, high\) with low < high, or None$"),
        ({"clamp": (-10,)}, r"^clamp = \(-10,\): must be"),
        ({"clamp": 10.0}, r"^clamp = 10.0: must be"),
        ({"clamp": ("low", "mid")}, r"^clamp = \('low', 'mid'\): must be"),
    ],
)
def test_refuses_bad_settings(arguments, line):
    with pytest.raises(ValueError, match=line):
        ChaoticLoss(**{"z": 1.0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"read": "outputs"}, "^read = 'outputs': must be one of output, input, membrane$"),
        ({"z": -1.0}, r"^z = -1.0: must be a number in \[0, inf\)$"),
        ({"layers": None}, "^no layer None in Sequential: it has fc1"),
        ({"layers": [3]}, "^no layer 3 in Sequential: it has fc1"),
    ],
)
def test_refuses_bad_attachments(arguments, line):
    with pytest.raises(ValueError, match=line):
        ChaoticLoss(1.0).attach(**{"model": network(), "layers": "fc1", **arguments})
