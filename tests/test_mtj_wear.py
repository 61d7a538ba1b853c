"""Magnetic junctions, SONOS over days, narrowing windows and disturbing reads."""

import math

import numpy as np
import pytest
import torch
from _laws import WINDOW, counts, one_by_one, start

from devices import (
    TMRIV,
    ConstantStep,
    Device,
    MTJSwitch,
    NarrowingWindow,
    ReadDisturb,
    SONOSRetention,
    SONOSWrite,
)

LOW, HIGH = WINDOW
SPAN = HIGH - LOW
UM, DAY = 1e-6, 86400.0
N = 20000


def share_on(g: torch.Tensor) -> float:
    return (g > (LOW + HIGH) / 2).double().mean().item()


def sure(p: float) -> float:
    """Five standard errors of a share of N cells."""
    return 5 * (p * (1 - p) / N) ** 0.5 + 1e-12


@pytest.mark.parametrize("volt", [0.0, 0.42, 0.46, 0.49])
@pytest.mark.parametrize("time", [2e-9, 3e-8, 1e-6])
def test_junctions_switch_with_their_probability(volt, time):
    law = MTJSwitch(delta=40.0, v_c_down=0.6)
    device, state, generator = start(law, 0.0, N)
    held = torch.full((N,), volt, dtype=torch.float64)
    want = 1 - math.exp(-(time / 1e-9) * math.exp(-40 * (1 - volt / 0.5)))
    on = share_on(device.drive(state, held, time, generator=generator).g)
    assert on == pytest.approx(want, abs=sure(want))
    device, state, generator = start(law, 1.0, N)
    want = math.exp(-(time / 1e-9) * math.exp(-40 * (1 - volt / 0.6)))
    on = share_on(device.drive(state, -held, time, generator=generator).g)
    assert on == pytest.approx(want, abs=sure(want))


def test_a_junction_left_alone_forgets_in_the_end():
    law = MTJSwitch(delta=20.0)
    device, state, generator = start(law, 1.0, N)
    tau = 1e-9 * math.exp(20.0)
    held = torch.zeros(N, dtype=torch.float64)
    for time in (0.1 * tau, tau, 20 * tau):
        want = (1 + math.exp(-2 * time / tau)) / 2
        on = share_on(device.drive(state, held, time, generator=generator).g)
        assert on == pytest.approx(want, abs=sure(want))


def test_pulses_are_their_voltage_and_random_counts_their_draws():
    law = MTJSwitch(sigma_delta=0.02)
    device, state, generator = start(law, 0.0, N)
    given = counts(N, 6, 3)
    many = share_on(device.pulse(state, given, generator=generator).g)
    single = share_on(one_by_one(device, state, given.up, given.down, generator))
    assert many == pytest.approx(single, abs=0.01 + 2 * sure(single))
    strong = MTJSwitch(v_set=0.5)  # a pulse that switches for certain
    for law, p in ((strong, 1 - math.exp(-10)), (MTJSwitch(), 0.0790)):
        device, state, generator = start(law, 0.0, N)
        for mean in (0.03, 0.5, 2.0):
            got = share_on(device.pulse(state, counts(N, mean, 0, poisson=True)).g)
            want = 1 - math.exp(-mean * p)
            assert got == pytest.approx(want, abs=sure(want) + 1e-3)
        given = counts(N, 1.5, 0)._replace(up_var=torch.full((N,), 0.75, dtype=torch.float64))
        got = share_on(device.pulse(state, given).g)  # three pulses, each given or not
        want = 1 - (1 - 0.5 * p) ** 3
        assert got == pytest.approx(want, abs=sure(want) + 1e-3)


def test_magnetoresistance_halves_at_its_voltage():
    iv = TMRIV(g_p=100e-6, v_h=0.5)
    g = torch.tensor([40e-6, 100e-6], dtype=torch.float64)
    for volt in (1e-6, 0.25, 0.5, -0.5, 1.0):
        v = torch.tensor(volt, dtype=torch.float64)
        resistance = v / iv.current(g, v)
        tmr = resistance[0] / resistance[1] - 1
        assert tmr.item() == pytest.approx(1.5 / (1 + (volt / 0.5) ** 2), rel=1e-9)
        assert resistance[1].item() == pytest.approx(1e4)
    for volt in (0.3, -0.7):
        spice = iv.spice("40e-6", f"({volt})")
        want = iv.current(g, torch.tensor(volt, dtype=torch.float64))[0].item()
        assert eval(spice) == pytest.approx(want, rel=1e-12)


# ---- SONOS -------------------------------------------------------------------------------------

SONOS = {  # day: mean shift [nA] of 0, 200 and 800 nA, from the published polynomials; A and B
    1: (0.683650, (19.88665, 176.3115), (25.59102, 186.85544)),
    3: (1.158210, (19.88665, 176.3115), (31.04318, 198.90332)),
    5: (1.152940, (19.88665, 176.3115), (34.57909, 207.34309)),
}
POLYNOMIAL = {  # highest power first
    1: "-3.94954e-27 2.67255e-23 -7.60016e-20 1.17751e-16 -1.07685e-13 5.88902e-11 -1.87435e-08 "
    "3.37944e-06 -4.03163e-04 6.51250e-03 6.83650e-01",
    3: "-4.02057e-27 2.78802e-23 -8.11574e-20 1.28435e-16 -1.19499e-13 6.59752e-11 -2.08786e-08 "
    "3.67510e-06 -4.70807e-04 1.96116e-02 1.15821e00",
    5: "-3.11099e-27 2.12615e-23 -6.00346e-20 8.98185e-17 -7.53872e-14 3.39044e-11 -6.46690e-09 "
    "1.76086e-08 -6.05199e-05 1.03149e-02 1.15294e00",
}


def aged(current: float, *times: float) -> np.ndarray:
    """Currents of N cells [nA], programmed exactly and then left for these times."""
    device = Device(0.0, 16 * UM, retention=SONOSRetention())
    generator = torch.Generator().manual_seed(0)
    state = device.fabricate((N,), generator=generator, dtype=torch.float64)
    g = torch.full((N,), current * 1e-8, dtype=torch.float64)
    state = device.program(state, g, generator=generator)
    for time in times:
        state = device.advance(state, time)
    return state.g.numpy() * 1e8


@pytest.mark.parametrize("day", SONOS)
def test_sonos_cells_shift_and_broaden_as_published(day):
    at_zero, (a0, b0), (a, b) = SONOS[day]
    powers = np.array(POLYNOMIAL[day].split(), float)
    assert np.polyval(powers, 0) == pytest.approx(at_zero)
    for current in (200.0, 800.0, 1400.0):
        after = aged(current, day * DAY)
        spread = np.sqrt(
            (a * (1 - np.exp(-current / b))) ** 2 - (a0 * (1 - np.exp(-current / b0))) ** 2
        )
        shift = np.polyval(powers, current)
        assert after.mean() - current == pytest.approx(shift, abs=4 * spread / N**0.5)
        assert after.std() == pytest.approx(spread, rel=4 / (2 * N) ** 0.5)


def test_sonos_loss_is_linear_between_days_composes_and_ends():
    whole = aged(800.0, 1.5 * DAY)
    assert np.allclose(whole, (aged(800.0, DAY) + aged(800.0, 2 * DAY)) / 2, rtol=1e-9)
    assert np.allclose(whole, aged(800.0, 0.7 * DAY, 0.8 * DAY), rtol=1e-9)
    assert np.allclose(aged(800.0, 5 * DAY), aged(800.0, 50 * DAY), rtol=1e-9)


def test_currents_beyond_the_fit_move_as_its_last_good_one():
    assert np.allclose(aged(1600.0, 5 * DAY) - 1600, aged(1400.0, 5 * DAY) - 1400, atol=1e-6)


def test_the_error_of_the_write_and_the_loss_make_the_published_spread():
    device = Device(0.0, 16 * UM, write=SONOSWrite(), retention=SONOSRetention())
    state = device.fabricate((N,), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    g = torch.full((N,), 1000e-8, dtype=torch.float64)
    state = device.advance(device.program(state, g, generator=generator), 2 * DAY)
    spread = state.g.std().item() * 1e8
    assert spread == pytest.approx(28.72753 * (1 - math.exp(-1000 / 193.56834)), rel=0.03)


# ---- wear --------------------------------------------------------------------------------------


def test_the_window_closes_a_tenth_at_each_end_per_decade():
    law = NarrowingWindow(ConstantStep(dg_min=1e-6), pulses=1000.0, loss=0.1)
    device, state, _ = start(law, 0.5, 1)
    used = 0.0
    for n, lost in ((1000, 0.0), (9000, 0.1), (90000, 0.2), (10**9, 0.49)):
        state = device.pulse(state, counts(1, n, 0))
        used += n
        state = state._replace(g=torch.full((1,), (LOW + HIGH) / 2, dtype=torch.float64))
        top = device.pulse(state, counts(1, 200, 0)).g.item()
        bottom = device.pulse(state, counts(1, 0, 200)).g.item()
        worn = min(0.49, 0.1 * max(0.0, math.log10((used + 200) / 1000)))
        assert top == pytest.approx(HIGH - worn * SPAN) and worn == pytest.approx(lost, abs=0.009)
        assert bottom == pytest.approx(LOW + worn * SPAN)
    assert law.step(device.window) == 1e-6


def test_onsets_are_spread_and_a_cell_outside_stays_until_it_is_pulsed_in():
    law = NarrowingWindow(ConstantStep(dg_min=1e-6), pulses=100.0, loss=0.2, sigma_log10=0.5)
    device, state, _ = start(law, 1.0, N)
    logs = state.update.onset.log10()
    assert logs.mean().item() == pytest.approx(2, abs=5 * 0.5 / N**0.5)
    assert logs.std().item() == pytest.approx(0.5, rel=0.03)
    worn = device.pulse(state, counts(N, 10**6, 0))
    assert torch.equal(worn.g, state.g)  # pressed against an end that is no longer theirs
    down = device.pulse(worn, counts(N, 0, 40)).g
    up = device.pulse(worn._replace(g=down), counts(N, 100, 0)).g
    _, high = law.bounds(device.window, worn.update)
    assert bool((up < HIGH).all()) and bool((up <= high + 1e-12).all())


def test_reads_push_the_cell_to_its_end():
    device = Device(LOW, HIGH, retention=ReadDisturb(share=1e-4, rate=50.0, end=1.0))
    state = device.fabricate((1,), dtype=torch.float64)
    g = state.g.item()
    for _ in range(500):  # ten seconds of reads, one by one
        g += 1e-4 * (HIGH - g)
    assert device.advance(state, 10.0).g.item() == pytest.approx(g, rel=1e-9)
    late = device.advance(state, 1e6).g
    assert late.item() == pytest.approx(HIGH)
    assert device.advance(device.advance(state, 3.0), 7.0).g.item() == pytest.approx(g, rel=1e-12)


def test_bad_settings_are_refused_by_name():
    for words, make in [
        ("delta must be > 0", lambda: MTJSwitch(delta=0.0)),
        ("-v_reset must be > 0 V", lambda: MTJSwitch(v_reset=0.2)),
        ("v_h must be > 0 V", lambda: TMRIV(v_h=0.0)),
        ("v_read must be > 0 V", lambda: SONOSRetention(0.0)),
        ("loss must be in", lambda: NarrowingWindow(ConstantStep(1e-6), loss=0.6)),
        ("share must be in", lambda: ReadDisturb(share=1.0)),
    ]:
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(TypeError, match="law must be a Update"):
        NarrowingWindow(None)
