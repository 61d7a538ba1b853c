"""The contract every part of a device keeps, as one call: `check(part)`.

A part of your own, in your own script, passes it before you trust an array to it:

    from devices.testing import check
    check(MyLaw(dg_min=0.2e-6))

All chance is seeded: a part passes or fails always. What the law *is* only its author knows.
"""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from devices._drawn import many_off, moments_off, numbered, step_off
from devices._own import age_off, alone_off, noise_off, shared_off, written_off
from devices.device import STATEFUL, Device
from devices.draw import Draw
from devices.part import IV, Faults, Part, Pulses, Read, Retention, State, Update, Window, Write
from devices.trees import mapped, tensors

CELLS = 4096
"""Cells behind every statistical statement; it may be off by `ERRORS` standard errors."""
ERRORS = 5.0
KINDS = (Update, Read, Retention, Write, IV, Faults)
_copy = partial(mapped, f=Tensor.clone)


def check(part: Part | Device, *, g_min: float = 1e-6, g_max: float = 51e-6) -> None:
    """Assert the contract of a part, or of a device and all its parts.

    Args:
        part: what is checked.
        g_min: lower end of the window it is checked on [S]; a device brings its own.
        g_max: upper end [S].

    Raises:
        AssertionError: the first promise that is broken, in words.
    """
    if isinstance(part, Device):
        for own in (getattr(part, field.name) for field in dataclasses.fields(part)):
            if isinstance(own, Part):
                check(own, g_min=part.g_min, g_max=part.g_max)
        _check_device(part)
        return
    kinds = [kind for kind in KINDS if isinstance(part, kind)]
    _that(len(kinds) == 1, part, "must be exactly one kind of part (Update, Read, ...), made")
    window = Window(float(g_min), float(g_max))
    device = _device(part, window)
    _check_settings(part)
    if not isinstance(part, Write | IV):
        _check_leaf(part, window)
    checks: dict[type[Part], Callable[[Any, Window], None]] = {
        Update: _check_update,
        Read: _check_read,
        Retention: _check_retention,
        Write: _check_write,
        IV: _check_iv,
        Faults: _check_faults,
    }
    checks[kinds[0]](part, window)
    _check_device(device)


def _that(holds: object, part: object, promise: str) -> None:
    if not bool(holds):
        raise AssertionError(f"{part!r} {promise}")


def _none(part: object, fault: str | None) -> None:
    _that(fault is None, part, fault or "")


def _device(part: Part, window: Window) -> Device:
    name = next(kind.__name__.lower() for kind in KINDS if isinstance(part, kind))
    try:
        return Device(*window, **{name: part})  # type: ignore[arg-type]
    except TypeError as error:
        raise AssertionError(str(error)) from error


def _draw(dtype: torch.dtype = torch.float64, seed: int = 0) -> Draw:
    return Draw(numbered(seed), dtype, "cpu")


def _same(a: Any, b: Any) -> bool:
    pairs = zip(tensors(a), tensors(b), strict=True)
    return all(x.dtype == y.dtype and torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


def _check_settings(part: Part) -> None:
    settings = getattr(type(part), "__dataclass_params__", None)
    _that(settings is not None and settings.frozen, part, "must be a frozen dataclass")
    names = {**vars(sys.modules["devices"]), **vars(sys.modules[type(part).__module__])}
    try:  # of tables too long to be shown the repr is only their size
        again = part if "(<" in repr(part) else eval(repr(part), dict(names))
    except (NameError, SyntaxError, TypeError, ValueError) as error:
        raise AssertionError(f"{part!r} must be rebuilt by its repr: {error}") from error
    _that(again == part, part, "must be rebuilt by its repr")


def _fabricate(part: Part, window: Window, shape: tuple[int, ...], dtype: torch.dtype) -> Any:
    return part.fabricate(window, shape, _draw(dtype))


def _check_leaf(part: Part, window: Window) -> None:
    shape = (2, 3, 4)
    for dtype in (torch.float32, torch.float64):
        leaf = _fabricate(part, window, shape, dtype)
        _that(hasattr(leaf, "_fields"), part, "must fabricate a NamedTuple of tensors")
        parts = list(tensors(leaf))
        for t in parts:
            _that(t.dim() == 0 or t.shape == shape, part, f"leaf {tuple(t.shape)} is not {shape}")
        places = [t.untyped_storage().data_ptr() for t in parts]
        _that(len(set(places)) == len(places), part, "leaf tensors must not share storage")
        again = _fabricate(part, window, shape, dtype)
        _that(_same(leaf, again), part, "must fabricate the same cells from the same generator")
        g = torch.full(shape, window.g_min + 0.6 * window.span, dtype=dtype)
        _none(part, written_off(part, window, g, leaf, _draw(dtype, 1)))


def _cells(window: Window, at: float, n: int = CELLS, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.full((n,), window.g_min + at * window.span, dtype=dtype)


def _state(device: Device, at: float, dtype: torch.dtype = torch.float64, n: int = CELLS) -> State:
    state = device.fabricate((n,), generator=numbered(), dtype=dtype)
    return state._replace(g=_cells(device.window, at, n, dtype))


def _given(up: float, down: float, *, moments: bool = False, dtype: Any = torch.float64) -> Pulses:
    mean = [torch.full((CELLS,), float(n), dtype=dtype) for n in (up, down)]
    return Pulses(*mean, *(mean if moments else (None, None)))


def _not_below(part: Part, a: Tensor, b: Tensor, promise: str) -> None:
    """Assert mean(a) >= mean(b) within the standard error and the rounding of one cell."""
    error = ERRORS * ((a.var() + b.var()) / CELLS).sqrt()
    _that((a - b).mean() >= -error - 1e-9 * b.abs().max(), part, promise)


def _check_update(part: Update, window: Window) -> None:
    step = part.step(window)
    _that(isinstance(step, float) and 0 < step <= window.span, part, f"step is {step!r} S")
    device = _device(part, window)
    out = part.pulse(window, _cells(window, 0.4), _state(device, 0.4).update, _given(1, 0), _draw())
    _that(isinstance(out, tuple) and len(out) == 2, part, "pulse must return g and p, both")
    for dtype in (torch.float32, torch.float64):
        for at in (0.0, 0.4, 1.0):
            state = _state(device, at, dtype)
            _check_pulses(part, device, state)
    _none(part, alone_off(device, _state(device, 0.4, n=CELLS // 4)))
    for at in (0.25, 0.5, 0.75):
        state = _state(device, at)
        for n in (1, 10, 1000):
            up = device.pulse(state, _given(n, 0), generator=numbered(1)).g
            _not_below(part, up, state.g, f"lowered g by {n} up pulses")
            down = device.pulse(state, _given(0, n), generator=numbered(1)).g
            _not_below(part, state.g, down, f"raised g by {n} down pulses")
        more = device.pulse(state, _given(20, 0), generator=numbered(2)).g
        few = device.pulse(state, _given(2, 0), generator=numbered(3)).g
        _not_below(part, more, few, "moved less by 20 up pulses than by 2")
    few_steps = max(1, min(12, int(0.15 * window.span / step)))
    # on coarser devices the order of mixed pulses is what decides
    directions = [(1, 0), (0, 1)] + [(1, 1)] * (few_steps >= 4)
    for ups, downs in directions:
        _none(part, many_off(device, _state(device, 0.5), few_steps * ups, few_steps * downs, step))
    _none(part, step_off(device, partial(_state, device), step))
    for at in () if part.whole else (0.3, 0.5):
        _none(part, moments_off(device, _state(device, at), step))
        _none(part, shared_off(device, _state(device, at)))
    _check_drive(part, window)


def _check_pulses(part: Update, device: Device, state: State) -> None:
    """One state under every kind of counts: bounds, dtype, inputs left alone, same seed."""
    low, high = part.bounds(device.window, state.update)
    given = [_given(*c) for c in ((1, 0), (0, 1), (3, 2), (0, 1_000_000), (2_000_000, 1_000_000))]
    if not part.whole:
        given += [_given(0.3, 0.02), _given(0.3, 40.2, moments=True), _given(2, 1, moments=True)]
        z = torch.randn(CELLS, generator=numbered(), dtype=torch.float64)
        given += [given[-1]._replace(z=z), _given(1, 0, dtype=torch.float32)]
    for pulses in given:
        before = _copy((state, pulses))
        out = device.pulse(state, pulses, generator=numbered(5))
        _that(_same(before, (state, pulses)), part, "must not write into its inputs")
        _that(out.g.dtype == state.g.dtype, part, f"changed {state.g.dtype} to {out.g.dtype}")
        _that(torch.isfinite(out.g).all(), part, f"gave a non-finite g for {pulses}")
        floor = torch.minimum(state.g, torch.as_tensor(low, dtype=state.g.dtype))
        ceiling = torch.maximum(state.g, torch.as_tensor(high, dtype=state.g.dtype))
        _that(((out.g >= floor) & (out.g <= ceiling)).all(), part, "left its bounds")
        again = device.pulse(state, pulses, generator=numbered(5))
        _that(_same(again, out), part, "must repeat itself under the same generator")
    still = device.pulse(state, _given(0, 0), generator=numbered())
    _that(torch.equal(still.g, state.g), part, "must leave g alone without pulses")


def _check_drive(part: Update, window: Window) -> None:
    if type(part).drive is Update.drive:
        return
    device = _device(part, window)
    state = _state(device, 0.5)
    try:
        device.drive(state, torch.zeros(CELLS, dtype=torch.float64), 1e-9, generator=numbered())
    except TypeError:  # a law around one without voltage dynamics
        return
    ends = part.bounds(window, state.update)
    low, high = (torch.as_tensor(end, dtype=torch.float64) for end in ends)
    for volt in (-2.0, -0.1, 0.0, 0.1, 2.0):
        for dt in (1e-9, 1e-3, 10.0):
            v = torch.full((CELLS,), volt, dtype=torch.float64)
            before = _copy((state, v))
            out = device.drive(state, v, dt, generator=numbered())
            _that(_same(before, (state, v)), part, "drive must not write into its inputs")
            inside = (out.g >= low) & (out.g <= high)
            _that(inside.all(), part, f"left its bounds driven by {volt} V for {dt} s")
            _that(out.g.dtype == state.g.dtype, part, "drive must keep the dtype of g")


def _ages(window: Window) -> list[Tensor]:
    return [
        torch.zeros((), dtype=torch.float64),
        torch.full((CELLS,), 1e7, dtype=torch.float64),
        torch.logspace(-9, 9, CELLS, dtype=torch.float64),
    ]


def _check_read(part: Read, window: Window) -> None:
    for dtype in (torch.float32, torch.float64):
        leaf = _fabricate(part, window, (CELLS,), dtype)
        for at in (0.0, 0.5, 1.0):
            g = _cells(window, at, dtype=dtype)
            for age in _ages(window):
                std = part.std(window, g, leaf, age)
                _that(std.shape in ((), g.shape), part, f"std has shape {tuple(std.shape)}")
                _that(std.dtype == dtype, part, f"std of {dtype} cells is {std.dtype}")
                _that((torch.isfinite(std) & (std >= 0)).all(), part, "std must be finite, >= 0")
            _none(part, age_off(part, lambda age, g=g, p=leaf: part.std(window, g, p, age)))  # type: ignore[misc]
            shift = part.shift(window, g, leaf)
            if shift is None:
                continue
            _that(shift.shape == g.shape and shift.dtype == dtype, part, "shift must be like g")
            _that((g + shift >= 0).all(), part, "shift must not make a conductance negative")
        before = _copy(leaf)
        later = part.step(window, leaf, 1.0, _draw(dtype, 1))
        _that(_same(before, leaf), part, "step must not write into its leaf")
        _that(type(later) is type(leaf), part, "step must return a leaf like its own")
        still = part.step(window, leaf, 0.0, _draw(dtype, 1))
        _that(_same(still, leaf), part, "must stand still while no time passes")
    leaf = _fabricate(part, window, (CELLS,), torch.float64)
    g = _cells(window, 0.5)
    leaf = part.written(window, g, leaf, torch.ones(CELLS, dtype=torch.bool), _draw(seed=2))
    fresh = part.shift(window, g, leaf)
    aged = part.shift(window, g, part.step(window, leaf, 1e3, _draw(seed=3)))
    for shift in (fresh, aged):
        if shift is not None:
            error = ERRORS * shift.std() / CELLS**0.5
            _that(shift.mean().abs() <= error, part, "slow noise must be unbiased")


def _check_retention(part: Retention, window: Window) -> None:
    for dtype in (torch.float32, torch.float64):
        leaf = _fabricate(part, window, (CELLS,), dtype)
        for at in (0.0, 0.5, 1.0):
            g = _cells(window, at, dtype=dtype)
            for age in _ages(window):
                for dt in (0.0, 1.0, 1e8):
                    before = _copy((g, leaf, age))
                    out, _ = part.advance(window, g, leaf, age, dt, _draw(dtype), temperature=300.0)
                    _that(_same(before, (g, leaf, age)), part, "must not write into its inputs")
                    _that(out.dtype == dtype, part, f"changed {dtype} to {out.dtype}")
                    _that((torch.isfinite(out) & (out >= 0)).all(), part, "g must stay >= 0")
                    if dt == 0:
                        _that(torch.equal(out, g), part, "must stand still while no time passes")
    device = _device(part, window)
    state = device.program(_state(device, 0.7), _cells(window, 0.7), generator=numbered(1))

    def later(seed: int, age: Tensor = state.age) -> Tensor:
        g, leaf, draw = state.g, state.retention, _draw(seed=seed)
        return part.advance(window, g, leaf, age, 1e3, draw, temperature=300.0)[0]

    _none(part, age_off(part, partial(later, 2)))
    _none(part, noise_off(later))
    for a, b in ((1.0, 9.0), (100.0, 1e5)):
        whole = device.advance(state, a + b, generator=numbered(2)).g
        first = device.advance(state, a, generator=numbered(3))
        halves = device.advance(first, b, generator=numbered(4)).g
        error = ERRORS * ((whole.var() + halves.var()) / CELLS).sqrt()
        change = 0.01 * (whole - state.g).mean().abs() + 1e-9 * window.span
        off = (whole - halves).mean().abs()
        _that(off <= error + change, part, f"{a} s and {b} s differ from {a + b} s in mean")
        off = (whole.std() - halves.std()).abs()
        _that(off <= 0.05 * whole.std() + error + change, part, f"{a} s and {b} s differ in spread")


def _check_write(part: Write, window: Window) -> None:
    for dtype in (torch.float32, torch.float64):
        for at in (0.0, 0.5, 1.0):
            target = _cells(window, at, dtype=dtype)
            before = target.clone()
            out = part.program(window, target, _draw(dtype))
            _that(torch.equal(before, target), part, "must not write into the target")
            _that(out.shape == target.shape and out.dtype == dtype, part, "must be like its target")
            _that(torch.isfinite(out).all(), part, "gave a non-finite conductance")
            again = part.program(window, target, _draw(dtype))
            _that(torch.equal(out, again), part, "must repeat itself under the same generator")

    def found(seed: int, at: float = 0.5) -> Tensor:
        return part.program(window, _cells(window, at), _draw(seed=seed))

    _none(part, noise_off(found))
    _not_below(part, found(0, 0.75), found(0, 0.25), "wrote high targets lower than low ones")


def _check_iv(part: IV, window: Window) -> None:
    g = torch.linspace(window.g_min, window.g_max, 7, dtype=torch.float64)[:, None]
    v = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64)[None, :].clone().requires_grad_()
    current = part.current(g, v)
    _that(current.shape == (7, 101), part, "current must broadcast g against v")
    _that((current[:, 50].abs() <= 1e-12 * window.g_max).all(), part, "no current at 0 V")
    _that((current.diff(dim=1) > 0).all(), part, "current must increase with v up to 0.5 V")
    (slope,) = torch.autograd.grad(current.sum(), v)
    with torch.no_grad():
        rise = (part.current(g, v + 1e-5) - part.current(g, v - 1e-5)).sum(0) / 2e-5
    close = (slope[0] - rise).abs().max() <= 1e-6 * rise.abs().max()
    _that(close, part, "gradient by v must be the derivative")
    single = part.current(g.float(), v.detach().float())
    _that(single.dtype == torch.float32, part, "current must keep float32")


def _check_faults(part: Faults, window: Window) -> None:
    for dtype in (torch.float32, torch.float64):
        at = part.stuck(_fabricate(part, window, (CELLS,), dtype))
        _that(at.shape in ((), (CELLS,)) and at.dtype == dtype, part, "stuck must be like g")
        place = at[~at.isnan()]
        inside = (place >= 0) & (place <= torch.as_tensor(window.g_max, dtype=dtype))
        _that(inside.all(), part, "stuck conductances must lie in 0 ... g_max")


def _check_device(device: Device) -> None:
    """The verbs in a row on the composed device, then again from a saved and reloaded state."""
    window = device.window
    shape = (2, 3, 4)
    for dtype in (torch.float32, torch.float64):
        state = device.fabricate(shape, generator=numbered(), dtype=dtype)
        low = torch.full(shape, window.g_min + 0.3 * window.span, dtype=dtype)
        state = device.program(state, low, generator=numbered(1))
        state = device.advance(state, 10.0, generator=numbered(2))
        results = [_work(device, state), _work(device, _reloaded(state))]
        _that(_same(*results), device, "must go on bit for bit from a saved state")
        for name in STATEFUL:
            leaf, own = getattr(results[0], name), getattr(device, name)
            _that((leaf is None) == (own is None), device, f"an absent {name} must have no leaf")
        _that(results[0].g.dtype == dtype and results[0].g.shape == shape, device, "changed g")
        _that((torch.isfinite(results[0].g) & (results[0].g >= 0)).all(), device, "g must be >= 0")
    state = device.fabricate(shape, generator=numbered(), dtype=torch.float32)
    wide = mapped(state, lambda t: t.double() if t.is_floating_point() else t)
    _that(_work(device, wide).g.dtype == torch.float64, device, "must follow its state's dtype")


def _work(device: Device, state: State) -> State:
    generator = numbered(3)
    if device.update is not None:
        ones = torch.ones_like(state.g)
        state = device.pulse(state, Pulses(2 * ones, ones), generator=generator)
    state = device.advance(state, 5.0, temperature=320.0, generator=generator)
    _that(device.seen(state).shape == state.g.shape, device, "seen must be like g")
    device.std(state)
    return state


def _reloaded(state: State) -> State:
    """The state after torch.save and a load restricted to tensors."""
    saved = io.BytesIO()
    torch.save({str(i): t for i, t in enumerate(tensors(state))}, saved)
    saved.seek(0)
    loaded = iter(torch.load(saved, weights_only=True).values())
    return mapped(state, lambda _: next(loaded))
