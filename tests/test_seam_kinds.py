"""Kinds of faults that ordinary use found at the seam; each against torch or a closed form."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import crossbar as xb
from devices import (
    VTEAM,
    ConstantStep,
    Device,
    GaussianRead,
    SinhIV,
    SoftBounds,
    presets,
    write_verify,
)

NOISY = xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(1e-7), read=GaussianRead(0.02)))
MODES = [xb.HardwareAware(), xb.Programmed(), xb.InSitu(xb.Expected())]
WRITTEN = MODES[1:]


def kind(mode):
    return type(mode).__name__


class Uses(nn.Module):
    """A matrix of its own, used by a function."""

    def __init__(self, use, n=6):
        super().__init__()
        self.W = nn.Parameter(torch.randn(n, n))
        self.use = use

    def forward(self, x):
        return self.use(x, self.W)


COMPUTED = {
    "scaled": lambda x, W: x @ (W * 2),
    "negated": lambda x, W: x @ -W,
    "standardised": lambda x, W: F.linear(x, (W - W.mean()) / W.std()),
    "masked": lambda x, W: x @ torch.where(W > 0, W, 0),
    "normalised": lambda x, W: x @ F.normalize(W),
    "merged": lambda x, W: F.linear(x, W + torch.ones(6, 1) @ torch.ones(1, 6)),
}


@pytest.mark.parametrize("use", COMPUTED)
@pytest.mark.parametrize("grad", [True, False])
def test_what_is_computed_of_a_float_weight_is_read_as_computed(use, grad):
    torch.manual_seed(0)
    net, x = Uses(COMPUTED[use]).double(), torch.randn(3, 6).double()
    with torch.set_grad_enabled(grad):
        ideal = xb.convert(net, xb.Chip(), seed=0)(x)
        assert float((ideal - net(x)).detach().abs().max()) < 1e-12
        model = xb.convert(Uses(COMPUTED[use]), NOISY, seed=0)
        reads = torch.stack([model(x.float()) for _ in range(4)])
    assert float(reads.std(0).detach().min()) > 1e-3  # each through the noisy chip


@pytest.mark.parametrize("mode", WRITTEN, ids=kind)
@pytest.mark.parametrize("use", [*COMPUTED, "gathered", "joined"])
def test_what_is_computed_of_cells_is_on_no_array(use, mode):
    more = {
        "gathered": lambda x, W: x @ W.index_select(1, torch.tensor([1, 0, 2, 3, 4, 5])),
        "joined": lambda x, W: x @ torch.cat([W, W], 1),
    }
    model = xb.convert(Uses({**COMPUTED, **more}[use]), NOISY, mode=mode, seed=0)
    with pytest.raises((TypeError, RuntimeError), match="on no array"):
        model(torch.randn(3, 6))


@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_numbers_that_were_detached_are_digital_on_purpose(mode):
    model = xb.convert(Uses(lambda x, W: x @ W.detach().clone()), NOISY, mode=mode, seed=0)
    x = torch.randn(3, 6)
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("mode", MODES, ids=kind)
@pytest.mark.parametrize(
    "use",
    [
        lambda x, W: F.scaled_dot_product_attention(x, W, W),
        lambda x, W: torch.cdist(x, W),
        lambda x, W: F.cosine_similarity(x, W[:3]),
    ],
)
def test_products_that_nobody_reads_are_refused(use, mode):
    model = xb.convert(Uses(use), NOISY, mode=mode, seed=0)
    with pytest.raises(TypeError, match="digitally, unnoticed"):
        model(torch.randn(3, 6))


def test_a_users_names_are_the_users():
    class Lora(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.names = nn.Linear(6, 6), nn.Linear(6, 6)
            self.cells = nn.Parameter(torch.randn(6, 6))

        def forward(self, x):
            return self.names(self.base(x)) @ self.cells

    net, x = Lora(), torch.randn(3, 6)
    model = xb.convert(net, xb.Chip(), seed=0)
    assert torch.allclose(model(x), net(x), atol=1e-5)
    model.load_state_dict(model.state_dict())
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    net.analog = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="analog"):
        xb.convert(net, xb.Chip(), seed=0)


@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_a_parametrization_over_an_array_is_refused(mode):
    class Lower(nn.Module):
        def forward(self, w):
            return w.tril()

    model = xb.convert(nn.Linear(6, 6), NOISY, mode=mode, seed=0)
    for over in (
        lambda m: parametrize.register_parametrization(m, "weight", Lower()),
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
    ):
        with pytest.raises(TypeError, match="register parametrizations before"):
            over(model)
    model(torch.randn(3, 6))  # still whole


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_normed_weights_are_read_and_written_as_computed(norm):
    torch.manual_seed(0)
    net, x = norm(nn.Linear(6, 5)).eval(), torch.randn(3, 6)
    for mode in (xb.HardwareAware(), xb.Programmed()):
        model = xb.convert(net, xb.Chip(), mode=mode, seed=0).eval()
        assert torch.allclose(model(x), net(x), atol=1e-5)
    with pytest.raises(TypeError, match="computed anew"):
        xb.convert(net, xb.Chip(), mode=xb.InSitu(), seed=0)


def test_pruning_after_conversion_writes_the_pruned_weight():
    torch.manual_seed(0)
    x = torch.randn(3, 6)
    for mode in (xb.HardwareAware(), xb.Programmed()):
        model = xb.convert(nn.Linear(6, 5), xb.Chip(), mode=mode, seed=0)
        prune.l1_unstructured(model, "weight", 0.5)
        y = model(x)
        assert float((model.weight == 0).float().mean()) == 0.5
        assert torch.allclose(y, F.linear(x, model.weight.detach().clone(), model.bias), atol=1e-6)
        prune.remove(model, "weight")
        assert torch.allclose(model(x), y, atol=1e-6)
    in_situ = xb.convert(nn.Linear(6, 5), xb.Chip(), mode=xb.InSitu(), seed=0)
    prune.l1_unstructured(in_situ, "weight", 0.5)
    with pytest.raises(TypeError, match="computed anew"):
        in_situ(x)


def test_a_digital_offset_knows_codes_and_not_the_noise_of_the_dac():
    """y = w_max (2 Σ (v + n) g/ΔG − c Σ v): the noise of the line voltages is all there."""
    torch.manual_seed(0)
    W, x = torch.randn(6, 20).double(), torch.randn(20).double()
    port = xb.Periphery(xb.DAC(None, noise=0.03))
    A = xb.matrix(W, xb.Chip(Device(1e-6, 50e-6), xb.SingleCell(), forward=port), seed=3)
    spread = (A @ x[:, None].expand(-1, 20000)).std(1)
    g = A.cells.g[0] / 49e-6
    want = x.abs().max() * 0.03 * W.abs().max() * 2 * g.square().sum(0).sqrt()
    assert float((spread / want - 1).abs().max()) < 5 / (2 * 20000) ** 0.5


def test_ranges_are_taken_of_currents_with_a_scale_per_column():
    torch.manual_seed(0)
    lin, x = nn.Linear(12, 9, bias=False).double(), torch.randn(12).double()
    lin.weight.data *= torch.logspace(-1, 1, 9).double()[:, None]
    port = xb.Periphery(adc=xb.ADC(3, range=xb.PerVector()))
    chip = xb.Chip(Device(1e-6, 51e-6), xb.Differential(per_column=True), forward=port)
    w_max = lin.weight.detach().abs().amax(1)
    i = lin.weight.detach() @ x / w_max
    want = xb.quantize(i, 3, i.abs().max()) * w_max
    for mode in (xb.HardwareAware(), xb.Programmed()):
        got = xb.convert(lin, chip, mode=mode, seed=1)(x)
        assert float((got - want).detach().abs().max()) < 1e-12


def test_nonlinear_cells_are_read_across():
    torch.manual_seed(0)
    W, y = torch.randn(5, 9).double(), torch.randn(5).double()
    cell = Device(1e-6, 1e-4, iv=SinhIV(0.5))
    A = xb.matrix(W, xb.Chip(cell, forward=xb.Periphery(xb.DAC(None, v_max=1e-3))), seed=0)
    assert float((A.T @ y - W.T @ y).abs().max()) < 1e-4  # ohmic at a millivolt
    assert float((A.read_column(2) - W[2]).abs().max()) < 1e-4


def test_write_and_verify_is_a_writer():
    cell = Device(1e-6, 51e-6, update=SoftBounds(0.2e-6, sigma_d2d=0.2))
    model = xb.convert(nn.Linear(6, 4), xb.Chip(cell), seed=0)
    wanted = model.weight.detach().clone()
    xb.program(model, writer=functools.partial(write_verify, tolerance=0.3e-6))
    worst = float((model.weight - wanted).detach().abs().max() / wanted.abs().max())
    assert 0 < worst <= 2 * 0.3e-6 / 50e-6 * 1.01  # two cells, each within its tolerance


def test_parts_of_a_weight_are_calibrated_on_their_tiles():
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(5, 12))

        def forward(self, x):
            return F.linear(x[..., :6], self.w[:, :6])

    torch.manual_seed(0)
    held = xb.Calibrated()
    port = xb.Periphery(xb.DAC(12, range=held), xb.ADC(12, range=held))
    net, x = Part(), torch.randn(6, 12)
    model = xb.convert(net, xb.Chip(tile=(4, 3), forward=port), seed=0)
    with pytest.raises(RuntimeError, match="before calibration"):
        model(x)
    xb.calibrate(model, [x])
    assert float((model(x) - net(x)).detach().abs().max()) < 0.02


@pytest.mark.parametrize("groups", [1, 2])
def test_rules_read_a_grouped_array_as_matrices(groups):
    torch.manual_seed(0)
    chip = xb.Chip(Device(1e-6, 1e-4, update=ConstantStep(0.5e-6)))
    mode = xb.InSitu(rule=xb.TikiTaka(transfer_lr=100.0))
    model = xb.convert(nn.Conv1d(4, 4, 3, groups=groups), chip, mode=mode, seed=0)
    matrix = model.analog["weight"].matrix
    x = torch.randn(5, groups, matrix.lines[-2])
    want = torch.einsum("ngr,grc->ngc", x, matrix.weight)
    assert torch.allclose(matrix.mv(x), want, atol=1e-5)
    optimiser, before = xb.InSituSGD(model, 0.01), model.weight.detach().clone()
    for _ in range(3):
        optimiser.zero_grad()
        model(torch.randn(2, 4, 6)).square().sum().backward()
        optimiser.step()
    assert not torch.equal(before, model.weight)


@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_resistances_get_their_gradient_in_every_mode(mode):
    torch.manual_seed(0)
    lin, x = nn.Linear(16, 4).double(), torch.randn(3, 16).double()
    cell = Device(1e-6, 50e-6, update=ConstantStep(1e-9))

    def loss(r):
        chip = xb.Chip(cell, wires=xb.Wires(r, 1.0), tile=(8, 4))
        return xb.convert(lin, chip, mode=mode, seed=0)(x).square().sum()

    r = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    loss(r).backward()
    h = 1e-3
    want = float((loss(1 + h) - loss(1 - h)).detach()) / (2 * h)
    assert float(r.grad) == pytest.approx(want, rel=1e-5)


# forward-mode derivatives make torch compile its own decompositions
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
@pytest.mark.parametrize("mode", WRITTEN, ids=kind)
def test_forward_mode_of_cells_is_refused_by_name(mode):
    model, x = xb.convert(nn.Linear(4, 3), xb.Chip(), mode=mode, seed=0), torch.randn(4)
    with pytest.raises(TypeError, match="forward-mode"):
        torch.func.jvp(model, (x,), (x,))


@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_another_parameter_cannot_share_an_array(mode):
    model, x = xb.convert(nn.Linear(4, 3), xb.Chip(), mode=mode, seed=0), torch.randn(2, 4)
    with pytest.raises(TypeError, match="cannot share"):
        nn.Parameter(model.weight)
    w = model.weight.detach().clone()
    model.weight = nn.Parameter(model.weight * 2)
    assert torch.allclose(model(x), x @ w.T * 2 + model.bias, atol=1e-5)


SOLVED = {
    "sinh": {"device": Device(1e-6, 51e-6, iv=SinhIV(0.3))},
    "gated": {
        "device": Device(1e-6, 51e-6),
        "wires": xb.Wires(0.0, 50.0, source=xb.SourceLine(0.2)),
    },
}
MAPPINGS = [
    xb.Differential(),
    xb.SingleCell(),
    xb.OffsetColumn(),
    xb.Slices(widths=(6, 6)),
    xb.SingleCell(per_column=True),
]


@pytest.mark.parametrize("mapping", MAPPINGS, ids=repr)
def test_inputs_of_nonlinear_cells_get_the_gradient_of_the_read(mapping):
    """Offsets and references included: central differences of a read without steps."""
    torch.manual_seed(0)
    port = xb.Periphery(xb.DAC(None, range=xb.Fixed(4.0)))
    net, c = nn.Linear(8, 5, bias=False).double(), torch.randn(1, 5).double()
    model = xb.convert(net, xb.Chip(mapping=mapping, forward=port, **SOLVED["sinh"]), seed=0)
    x = torch.randn(1, 8, dtype=torch.float64, requires_grad=True)
    (model(x) * c).sum().backward()
    h, eye = 1e-4, torch.eye(8).double()
    both = [(model(x.detach() + s * h * eye) * c).sum(1) for s in (1, -1)]
    want = (both[0] - both[1]).detach() / (2 * h)
    assert float((x.grad[0] - want).norm() / want.norm()) < 1e-5


@pytest.mark.parametrize("solved", SOLVED)
@pytest.mark.parametrize("mapping", MAPPINGS[:4], ids=repr)
def test_every_mapping_trains_on_solved_cells(mapping, solved):
    """The weight's gradient points where the digital one does, bit slices straight through."""
    torch.manual_seed(0)
    port = xb.Periphery(xb.DAC(6, v_max=0.2))
    net, x = nn.Linear(8, 5).double(), torch.randn(6, 8).double()
    model = xb.convert(net, xb.Chip(mapping=mapping, forward=port, **SOLVED[solved]), seed=0)
    model(x).square().sum().backward()
    net(x).square().sum().backward()
    a, b = model.weight.grad.flatten(), net.weight.grad.flatten()
    assert float(a @ b / (a.norm() * b.norm())) > 0.9


def test_slices_behind_wires_train_whether_or_not_a_resistance_does():
    torch.manual_seed(0)
    net, x, found = nn.Linear(8, 5).double(), torch.randn(6, 8).double(), []
    r = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)
    for wires in (xb.Wires(20.0, 30.0), xb.Wires(r, 30.0)):
        chip = xb.Chip(Device(1e-6, 51e-6), xb.Slices(widths=(3, 3)), wires=wires)
        model = xb.convert(net, chip, seed=0)
        model(x).square().sum().backward()
        found.append(model.weight.grad)
    assert torch.allclose(*found, rtol=1e-9) and float(found[0].abs().max()) > 1
    assert float(r.grad) != 0


@pytest.mark.parametrize("layer", [nn.Conv1d, nn.ConvTranspose1d])
@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_empty_batches_of_nonlinear_convolutions(layer, mode):
    cell = Device(1e-6, 51e-6, update=SoftBounds(1e-7), iv=SinhIV(0.1))
    model = xb.convert(layer(2, 3, 3), xb.Chip(cell, tile=(4, 3)), mode=mode, seed=0)
    x = torch.randn(0, 2, 7, requires_grad=not isinstance(mode, xb.Programmed))
    y = model(x)
    assert y.shape == layer(2, 3, 3)(x).shape
    if x.requires_grad:
        y.sum().backward()


def test_filtered_updates_with_a_scale_per_column():
    torch.manual_seed(0)
    chip = xb.Chip(
        Device(1e-6, 1e-4, update=ConstantStep(0.5e-6)), xb.Differential(per_column=True)
    )
    mode = xb.InSitu(rule=xb.TikiTaka(transfer_lr=100.0))
    model = xb.convert(nn.Linear(4, 3), chip, mode=mode, seed=0)
    before, optimiser = model.weight.detach().clone(), xb.InSituSGD(model, 0.01)
    model(torch.randn(8, 4)).square().sum().backward()
    optimiser.step()
    assert not torch.equal(before, model.weight)


@pytest.mark.parametrize(
    "make",
    [
        lambda: xb.Wires(1.0, 1.0, both_drivers="False"),
        lambda: xb.SourceLine(0.2, opposite=1),
        lambda: xb.Deterministic(stochastic=None),
        lambda: xb.matrix(torch.eye(2) * 1j),
        lambda: xb.matrix([[1.0, 0.0], [0.0, 1.0]]),
        lambda: xb.matrix(torch.eye(2)) @ (1j * torch.ones(2)),
    ],
)
def test_what_cannot_be_meant_is_refused(make):
    with pytest.raises(TypeError, match="must be"):
        make()


def test_nonfinite_voltages_are_refused():
    for name in ("v_set", "v_reset"):
        with pytest.raises(ValueError, match=name):
            VTEAM(**{name: float("nan")})


CONVS = {
    "2d": (lambda: [nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 2, 3, stride=2)], (2, 2, 6, 6)),
    "groups": (lambda: [nn.Conv1d(4, 4, 3, groups=2), nn.Conv1d(4, 2, 3, dilation=2)], (3, 4, 9)),
    "transposed": (
        lambda: [nn.ConvTranspose2d(2, 3, 3, 2), nn.ConvTranspose2d(3, 2, 3)],
        (1, 2, 4, 4),
    ),
}


@pytest.mark.parametrize("mode", [MODES[0], MODES[2]], ids=kind)
@pytest.mark.parametrize("which", CONVS)
def test_hessian_products_of_convolutions(which, mode):
    """More than was asked for (a refusal in situ): the reads' gradients are differentiable."""
    torch.manual_seed(0)
    make, shape = CONVS[which]
    first, last = make()
    net = nn.Sequential(first, nn.Tanh(), last).double()
    x = torch.randn(shape, dtype=torch.float64)
    weights = [first.weight, last.weight]
    v = [torch.randn_like(w) for w in weights]

    def product(model):
        own = [model[0].weight, model[2].weight]
        gs = torch.autograd.grad(model(x).square().sum(), own, create_graph=True)
        return torch.autograd.grad(sum((g * t).sum() for g, t in zip(gs, v, strict=True)), own)

    found = product(xb.convert(net, xb.Chip(), mode=mode, seed=0))
    for got, want in zip(found, product(net), strict=True):
        torch.testing.assert_close(got.as_subclass(torch.Tensor), want, rtol=1e-10, atol=1e-10)


def test_steps_within_the_graph_need_numbers_for_weights():
    """MAML: in situ a step is pulses on cells, which no graph holds."""
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x = torch.randn(6, 5, dtype=torch.float64)

    def outer(model):
        inner = dict(model.named_parameters())
        loss = torch.func.functional_call(model, inner, (x,)).square().sum()
        gs = torch.autograd.grad(loss, list(inner.values()), create_graph=True)
        moved = {n: p - 0.01 * g for (n, p), g in zip(inner.items(), gs, strict=True)}
        loss = torch.func.functional_call(model, moved, (x,)).square().sum()
        return torch.autograd.grad(loss, list(inner.values()))

    found = outer(xb.convert(net, xb.Chip(), seed=0))
    for got, want in zip(found, outer(net), strict=True):
        torch.testing.assert_close(got.as_subclass(torch.Tensor), want, rtol=1e-10, atol=1e-12)
    with pytest.raises(TypeError, match="HardwareAware"):
        outer(xb.convert(net, xb.Chip(), mode=xb.InSitu(), seed=0))


def test_who_asks_for_a_gradient_that_is_not_made_is_told():
    net = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    mode, x = xb.InSitu(gradient=False), torch.randn(6, 5, requires_grad=True)
    model = xb.convert(net, xb.Chip(), mode=mode, seed=0)
    with pytest.raises(TypeError, match=r"2\.weight: .*gradient=True"):
        torch.autograd.grad(model(x).sum(), list(model.parameters()))
    with pytest.raises(TypeError, match=r"2\.weight: .*gradient=True"):
        torch.func.grad(lambda p: torch.func.functional_call(model, p, (x,)).sum())(
            dict(model.named_parameters())
        )
    (by_x,) = torch.autograd.grad(model(x).sum(), [x])
    assert by_x.abs().sum() > 0 and not model[0].weight.analog.tape.entries
    model(x).sum().backward()
    assert model[0].weight.analog.tape.entries and model[0].weight.grad is None


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_transposes_that_are_attributes_are_traced(mode):
    torch._dynamo.reset()
    uses = {"T": lambda x, W: torch.tanh(x @ W.T) @ W.mT.mT, "H": lambda x, W: x @ W.H @ W.mH}
    for use in uses.values():
        net, x = Uses(use).double(), torch.randn(3, 6).double()
        model = xb.convert(net, xb.Chip(), mode=mode, seed=0)
        got = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
        torch.testing.assert_close(got, net(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("per_column", [False, True])
def test_converters_keep_their_numbers_on_the_meta_device(per_column):
    """`to_empty` makes numbers of chance: a plain checkpoint would not bring these back."""
    adc = xb.ADC(8, range=xb.Calibrated())
    mapping = xb.Differential(per_column=per_column)
    chip = xb.Chip(NOISY.device, mapping=mapping, forward=xb.Periphery(xb.DAC(8), adc))
    x = torch.randn(8, 6)
    for mode in MODES:
        with torch.device("meta"):
            model = xb.convert(nn.Sequential(nn.Linear(6, 5)), chip, mode=mode, seed=0)
        model.to_empty(device="cpu")
        model.load_state_dict(nn.Sequential(nn.Linear(6, 5)).state_dict())
        with pytest.raises(RuntimeError, match="before calibration"):
            model(x)
        xb.calibrate(model, [x])
        scale = model[0].analog["weight"].matrix.forward_port.adc_scale.clone()
        model.to("meta").to_empty(device="cpu")
        kept = model[0].analog["weight"].matrix.forward_port.adc_scale
        assert torch.equal(kept, scale) and kept.dtype == torch.float64
        assert model.half()[0].analog["weight"].matrix.forward_port.adc_scale.equal(scale)


def test_program_ends_in_a_mode_that_the_law_can_have():
    """A law of whole counts trains by whole counts."""
    device = presets.pcm_onesided()
    chip = xb.Chip(device, mapping=xb.Differential(route=xb.OneSided()))
    model = xb.program(xb.convert(nn.Linear(5, 4), chip, seed=0))
    before, x = model.weight.detach().clone(), torch.randn(64, 5)
    assert isinstance(model.analog["weight"].mode.scheme, xb.ExactBits)
    model(x).square().sum().backward()
    xb.InSituSGD(model, 0.1).step()
    assert not torch.equal(before, model.weight.detach())


@pytest.mark.parametrize("per_column", [False, True])
@pytest.mark.parametrize("mode", MODES, ids=kind)
def test_checkpoints_are_assigned_to_models_without_numbers(mode, per_column):
    """`load_state_dict(assign=True)` on the meta device: cells, or a plain checkpoint."""
    mapping = xb.Differential(per_column=per_column)
    noisy = xb.Chip(NOISY.device, mapping=mapping)
    quiet = xb.Chip(Device(1e-6, 50e-6, update=SoftBounds(1e-9)), mapping=mapping)
    net, x = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), torch.randn(4, 6)
    for chip in (quiet, noisy):
        saved = xb.convert(net, chip, mode=mode, seed=0)
        for source in (saved, net):
            with torch.device("meta"):
                shape = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
                model = xb.convert(shape, chip, mode=mode, seed=0)
            model.load_state_dict(source.state_dict(), assign=True)
            assert not any(p.is_meta for p in model.parameters())
            torch.testing.assert_close(
                model[0].weight.as_subclass(torch.Tensor), saved[0].weight.as_subclass(torch.Tensor)
            )
            if chip is quiet:
                torch.testing.assert_close(model(x), net(x), rtol=1e-5, atol=1e-6)
            if isinstance(mode, xb.InSitu):
                model(x).sum().backward()
                xb.InSituSGD(model, 0.1).step()
                assert not torch.equal(model[0].weight, saved[0].weight)
