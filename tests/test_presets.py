"""Every preset against a published number or the published equation in its own units."""

import math
from dataclasses import replace

import pytest
import torch
from _laws import counts

from devices import Device, Draw, presets


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What is given no generator draws from torch's own, here always the same."""
    torch.manual_seed(0)


UM = 1e-6


def quiet(device: Device) -> Device:
    """The device without noise and spread."""
    law = device.update
    names = ("sigma_c2c", "sigma_d2d", "sigma_up_down", "sigma_bounds", "sigma_add", "sigma_gamma")
    more = ("sigma_state", "sigma_log", "sigma_reference")
    return replace(
        device,
        update=replace(law, **{n: 0.0 for n in names + more if hasattr(law, n)}),
        read=None,
        retention=None,
    )


def cell(device: Device, g: float | None = None, n: int = 1):
    state = device.fabricate((n,), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return state if g is None else state._replace(g=torch.full((n,), g, dtype=torch.float64))


def sweep(device: Device, pulses: int, up: bool) -> list[float]:
    """Conductance after every pulse from one end of the window, as parts of it."""
    state = cell(device, device.g_min if up else device.g_max)
    curve = [state.g.item()]
    for _ in range(pulses):
        state = device.pulse(state, counts(1, up, not up))
        curve.append(state.g.item())
    return [(g - device.g_min) / (device.g_max - device.g_min) for g in curve]


NEUROSIM = {  # device table of the MLP NeuroSim V3.0 manual: states, labels, R_on, on/off, noise
    "ag_si": (97, 100, 2.4, -4.88, 26e6, 12.5, 0.035),
    "taox_tio2": (102, 102, 1.85, -1.79, 5e6, 2.0, 0.01),
    "taox_hfox": (128, 128, 0.04, -0.63, 100e3, 10.0, 0.037),
    "pcmo": (50, 50, 3.68, -6.76, 23e6, 6.84, 0.01),
    "alox_hfo2": (40, 40, 1.94, -0.61, 16.9e3, 4.43, 0.05),
    "epiram": (64, 64, 0.5, -0.5, 81e3, 50.2, 0.02),
    "gst_pcm": (100, 120, 0.105, 2.4, 4.71e3, 19.8, 0.015),
    "fefet": (32, 32, 1.75, 1.46, 559.28e3, 45.0, 0.005),
}


@pytest.mark.parametrize("name", NEUROSIM)
def test_neurosim_curves_show_their_published_label_and_states(name):
    up, down, nl_up, nl_down, r_on, on_off, noise = NEUROSIM[name]
    device = getattr(presets, name)()
    assert 1 / device.g_max == pytest.approx(r_on)
    assert device.g_max / device.g_min == pytest.approx(on_off)
    rise, fall = sweep(quiet(device), up, True), sweep(quiet(device), down, False)
    assert rise[-1] == pytest.approx(1, abs=1e-6) and fall[-1] == pytest.approx(0, abs=1e-6)
    assert rise[-2] < 1 - 1e-6 and fall[-2] > 1e-6  # neither earlier
    # NL = 10.1015 · the largest deviation of the normalised curve from a line
    bend_up = max(g - k / up for k, g in enumerate(rise))
    back = [1 - g - k / down for k, g in enumerate(fall)]
    bend_down = max(back, key=abs)
    assert 10.1015 * bend_up == pytest.approx(nl_up, abs=0.03)
    # a negative label falls fast at first, a positive one retraces the rising curve: slow at first
    assert -10.1015 * bend_down == pytest.approx(nl_down, abs=0.06)
    n = 20000
    noisy = device.pulse(cell(device, (device.g_min + device.g_max) / 2, n), counts(n, 1, 0)).g
    assert noisy.std() / (device.g_max - device.g_min) == pytest.approx(
        noise, rel=4 / (2 * n) ** 0.5
    )


# Constants of aihwkit's presets, and its equations, in its own weights. s↑ = s_up·…, s↓ = s_dn·…
EXPONENTIAL = dict(A_up=-1.18445, A_dn=-0.081404, gamma=5.0, a=-0.5, b=-0.5)
AIHWKIT = {  # dw_min, up_down as its code takes it, w_min, w_max, step law
    "reram_es": (0.00135, 0.259359, -1.0, 1.0, ("exp", EXPONENTIAL)),
    "reram_sb": (0.002, 0.0, -0.75, 1.25, ("linear", (1.0, 1.0))),
    "capacitor": (0.005, 0.0, -1.0, 1.0, ("linear", (0.05, 0.05))),
    "ecram_li": (0.002, 0.0, -0.8276, 1.1724, ("linear", (0.1153, 0.5085))),
    "ecram_mo": (2.8214e-4, 0.0, -0.8286, 1.1714, ("linear", (0.4152, 0.7342))),
    "reram_array_om": (0.0949, 0.0, -1.0, 1.0, ("linear", (1.0, 1.0))),
    "reram_array_hfo2": (0.4622, 0.0, -1.0, 1.0, ("linear", (1.0, 1.0))),
    "gokmen_vlasov": (0.0016, 0.0, -1.0, 1.0, ("linear", (0.0, 0.0))),
    "idealised_rpu": (0.0002, 0.0, -1.0, 1.0, ("linear", (0.0, 0.0))),
}


def aihwkit_step(name: str, w: float, up: bool) -> float:
    dw, up_down, low, high, (kind, given) = AIHWKIT[name]
    scale = dw * (1 + min(up_down, 0)) if up else dw * (1 - max(up_down, 0))
    if kind == "exp":
        z = 2 * w / (high - low) * given["a"] + given["b"]
        if up:
            return w + scale * max(0, 1 - given["A_up"] * math.exp(given["gamma"] * z))
        return w - scale * max(0, 1 - given["A_dn"] * math.exp(-given["gamma"] * z))
    if up:
        return min(high, w + scale * (1 - given[0] * w / high))
    return max(low, w - scale * (1 - given[1] * w / low))


@pytest.mark.parametrize("name", AIHWKIT)
@pytest.mark.parametrize("up", [True, False])
def test_training_presets_follow_aihwkits_equations_in_its_weights(name, up):
    device = quiet(getattr(presets, name)())
    _, _, low, high, _ = AIHWKIT[name]
    middle, half = (device.g_min + device.g_max) / 2, (device.g_max - device.g_min) / 2
    # weight zero lies at mid-window where the symmetry point is subtracted, else w_min at g_min
    zero = middle if name == "reram_sb" else middle - half * (low + high) / 2
    w, state = 0.0, cell(device, zero)
    for _ in range(300):
        w = aihwkit_step(name, w, up)
        state = device.pulse(state, counts(1, up, not up))
    want = min(max(zero + half * w, 0.0), device.g_max if name != "reram_sb" else 1.0)
    assert state.g.item() == pytest.approx(want, abs=1e-6 * half)


@pytest.mark.parametrize("name,states", [("reram_array_om", 21), ("reram_array_hfo2", 4)])
def test_array_devices_have_their_published_number_of_states(name, states):
    device = getattr(presets, name)()
    span = device.g_max - device.g_min
    assert round(span / device.update.step(device.window)) == states


def test_gokmen_vlasov_crosses_its_window_in_1250_pulses():
    curve = sweep(quiet(presets.gokmen_vlasov()), 1250, True)
    assert curve[1249] < 1 - 1e-4 and curve[1250] == pytest.approx(1, abs=1e-9)
    assert presets.gokmen_vlasov().g_max / presets.gokmen_vlasov().g_min == pytest.approx(8)


def test_reram_es_visible_noise_is_a_tenth_of_the_unit_weight():
    """75 steps of 0.00135: 0.10 of weight 1, the noise band of Gong et al.'s traces."""
    device = presets.reram_es()
    state = cell(device, 45 * UM, 20000)
    assert (device.seen(state) - state.g).std() / (15 * UM) == pytest.approx(0.10, rel=0.03)


def test_ecram_steps_are_equal_at_weight_zero():
    for device, zero in ((presets.ecram_li(), 0.8276 / 2), (presets.ecram_mo(), 0.8286 / 2)):
        device = quiet(device)
        state = cell(device, device.g_min + zero * (device.g_max - device.g_min))
        up = device.pulse(state, counts(1, 1, 0)).g - state.g
        down = state.g - device.pulse(state, counts(1, 0, 1)).g
        assert up.item() == pytest.approx(down.item(), rel=1e-6)


def test_capacitor_keeps_1_over_e_after_a_million_cycles():
    device = replace(presets.capacitor(cycle=2e-6), update=None)
    device = replace(device, retention=replace(device.retention, sigma_d2d=0.0))
    g = device.advance(cell(device, 9 * UM), 2.0).g.item()
    assert (g - 6 * UM) / (3 * UM) == pytest.approx(math.exp(-1), rel=1e-9)


def test_one_sided_pcm_follows_aihwkits_equation_and_resets():
    device = presets.pcm_onesided()
    law = quiet(replace(device, update=device.update.law))
    curve = sweep(law, 20, True)
    w = 0.0
    for k in range(20):
        w += 0.01 * (1 + 27.235 * math.exp(2.5 * (2 * w / 2 * -1.0)))
        assert 2 * curve[k + 1] == pytest.approx(w, rel=1e-9)
    n = 5000
    state = device.pulse(cell(device, 10 * UM, n), counts(n, 0, 1))
    away = (state.g - device.g_min) / (device.g_max - device.g_min)
    assert away.mean() == pytest.approx(0.005 * (2 / math.pi) ** 0.5, rel=0.05)


@pytest.mark.parametrize("time,left", [(3600.0, 0.7751), (86400.0, 0.6635), (31557600.0, 0.4969)])
def test_pcm_drifts_as_published(time, left):
    n = 40000
    device = presets.pcm()
    state = device.program(cell(device, n=n), torch.full((n,), 12.5 * UM))
    assert (state.g.std() / UM).item() == pytest.approx(0.9527, rel=4 / (2 * n) ** 0.5)
    exact = state._replace(g=torch.full((n,), 12.5 * UM, dtype=torch.float64))
    ratio = device.advance(exact, time).g / exact.g
    # at the mean exponent; its spread of 0.008 moves the mean by half its square
    logs = ratio.log()
    assert logs.mean().exp() == pytest.approx(left, abs=4 * logs.std().item() / n**0.5 + 1e-3)


@pytest.mark.parametrize(
    "device,hour,day",
    [(presets.hermes_1(), 0.847, 0.710), (presets.hermes_2(), 0.865, 0.726)],
    ids=["one device", "two devices"],
)
def test_hermes_drifts_as_its_published_fit_says(device, hour, day):
    n = 20000
    state = cell(device, n=n)
    g = torch.full((n,), device.g_max / 2, dtype=torch.float64)
    exact = replace(device, write=None)
    for time, kept in ((3600.0, hour), (86400.0, day)):
        left = exact.advance(exact.program(state, g), time).g / g
        assert left.log().mean().exp().item() == pytest.approx(kept, abs=2e-3)


def test_nurram_error_is_a_hump_of_two_microsiemens():
    device, n = presets.rram_wan(), 20000
    sizes = []
    for g in (0.02, 10.0, 20.0, 39.0):
        target = torch.full((n,), g * UM, dtype=torch.float64)
        error = device.write.program(device.window, target, Draw.like(target)) - target
        sizes.append(error.std().item() / UM)
    assert 2.0 < max(sizes) < 2.5 and sizes.index(max(sizes)) in (1, 2)
    assert sizes[0] < 1.1 and sizes[3] < 1.8  # both digitisations of the figure


def test_cmo_hfox_window_and_ten_years():
    """Falcone et al.: 9 … 90 µS, 1 % programming at the top, a shift of −1.7 µS in ten years."""
    device, n = presets.cmo_hfox(), 20000
    assert device.g_max / device.g_min == pytest.approx(10, rel=0.03)
    state = device.program(cell(device, n=n), torch.full((n,), 60 * UM))
    late = device.advance(state, 10 * 31557600.0).g
    assert (late - state.g).mean() / UM == pytest.approx(-1.74, abs=0.04)


def test_sonos_is_exact_at_zero_and_20_nanoamperes_at_the_top():
    device, n = presets.sonos(), 20000
    off = device.program(cell(device, n=n), torch.zeros(n)).g
    assert torch.equal(off, torch.zeros(n, dtype=torch.float64))
    target = torch.full((n,), 15 * UM, dtype=torch.float64)
    wrote = device.write.program(device.window, target, Draw.like(target))
    assert wrote.std() * 0.1 * 1e9 == pytest.approx(19.9, rel=0.03)


def test_milo_error_stays_within_its_published_band():
    device = presets.rram_milo()
    for g in (50.0, 225.0):
        target = torch.full((20000,), g * UM, dtype=torch.float64)
        error = device.write.program(device.window, target, Draw.like(target)).std() / UM
        assert 2.5 < error < 4.6


def test_querlioz_steps_fall_by_e_cubed():
    device = quiet(presets.querlioz())
    first = device.pulse(cell(device), counts(1, 1, 0)).g.item() - device.g_min
    top = cell(device, device.g_max)
    last = device.g_max - device.pulse(top, counts(1, 0, 1)).g.item()
    span = device.g_max - device.g_min
    assert first / span == pytest.approx(0.01) and last / span == pytest.approx(0.005)
    up, _ = device.update._steps(device.window, cell(device).update)
    ends = up(torch.tensor([device.g_min, device.g_max], dtype=torch.float64))
    assert ends[0] / ends[1] == pytest.approx(20.0855, rel=1e-4)


def test_cbram_switches_a_tenth_of_the_cells_per_pulse():
    device, n = presets.cbram_binary(), 20000
    state = cell(device, n=n)
    on = device.pulse(state, counts(n, 1, 0)).g > 50 * UM
    assert on.double().mean() == pytest.approx(0.1, abs=4 * (0.09 / n) ** 0.5)
    assert device.g_max / device.g_min >= 10


def test_wox_forgets_within_50_milliseconds():
    device = presets.wox_volatile()
    lifted = device.pulse(cell(device), counts(1, 5, 0))
    later = device.advance(lifted, 0.05)
    kept = (later.g - device.g_min) / (lifted.g - device.g_min)
    assert kept.item() == pytest.approx(math.exp(-1), rel=1e-9)


def test_vteam_keeps_its_thresholds():
    device = presets.vteam()
    state = cell(device, (device.g_min + device.g_max) / 2)
    for volt, moves in ((0.19, False), (0.21, True), (-0.019, False), (-0.03, True)):
        driven = device.drive(state, torch.full((1,), volt, dtype=torch.float64), 1e-6)
        assert bool(driven.g != state.g) == moves
    fast = device.drive(cell(device), torch.full((1,), 0.5, dtype=torch.float64), 3e-9)
    assert fast.g.item() == pytest.approx(device.g_max)


def test_the_ideal_device_is_ideal():
    device = presets.ideal()
    assert sweep(device, 1000, True)[-1] == pytest.approx(1)
    assert (device.read, device.write, device.retention, device.faults) == (None,) * 4


def test_every_preset_is_tested_here_and_cites_its_source():
    import inspect
    from pathlib import Path

    text = Path(__file__).read_text()
    for name, function in vars(presets).items():
        if inspect.isfunction(function):
            assert f"presets.{name}" in text or f'"{name}"' in text
            assert name == "ideal" or "Source:" in inspect.getdoc(function)
