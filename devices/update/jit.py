"""The loop of `devices.update.fused`; needs Numba (extra `fast`)."""

from __future__ import annotations

import numpy as np

try:
    import numba
    from numba.core import types
    from numba.extending import overload
except ImportError:
    near = None
else:
    ONE, HALF = np.float32(1), np.float32(0.5)
    # factors by which each term of log(1 + x)/x and expm1(x)/x follows from the one before
    LOG = tuple(np.float32(-n / (n + 1)) for n in range(1, 6))
    EXP = tuple(np.float32(1 / n) for n in range(2, 8))

    def of(x, i):
        """Compiled only: the i-th number, or the one of all."""

    @overload(of, inline="always")
    def _of(x, i):
        if isinstance(x, types.Array):
            return lambda x, i: x[i]
        return lambda x, i: x

    @numba.njit(inline="always")
    def log(x):
        """ln(1 + x)/x to float32 where |x| <= 0.05."""
        out = ONE + x * LOG[4]
        out = ONE + x * LOG[3] * out
        out = ONE + x * LOG[2] * out
        out = ONE + x * LOG[1] * out
        return ONE + x * LOG[0] * out

    @numba.njit(inline="always")
    def exp(x):
        """expm1(x)/x to float32 where |x| <= 0.25."""
        out = ONE + x * EXP[5]
        out = ONE + x * EXP[4] * out
        out = ONE + x * EXP[3] * out
        out = ONE + x * EXP[2] * out
        out = ONE + x * EXP[1] * out
        return ONE + x * EXP[0] * out

    FAST = {"contract", "reassoc", "nsz"}

    @numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=FAST)
    def near(
        g,
        k,
        a_up,
        a_down,
        b_up,
        b_down,
        at_up,
        at_down,
        up,
        down,
        up_var,
        down_var,
        z,
        normal,
        cycle,
        add,
        out,
    ):
        """`devices.update.fused.near` over flat arrays, and numbers for what is alike."""
        for i in range(g.size):
            x, size, rise, fall = g[i], of(k, i), up[i], down[i]
            b, d = size * of(b_up, i), size * of(b_down, i)
            s = size * of(a_up, i) + b * (x - of(at_up, i))
            t = size * of(a_down, i) + d * (x - of(at_down, i))
            if up_var is None:  # whole trials, and one that does the part that is left
                part, rest = rise - np.floor(rise), fall - np.floor(fall)
                p, q = ONE, ONE
                rho = (rise - part) * log(b) + part * log(part * b)
                sigma = (fall - rest) * log(d) + rest * log(rest * d)
            else:  # U/p trials of p = 1 − V/U, no fewer than one
                p = min(ONE - up_var[i] / rise, rise) if rise > 0 else ONE
                q = min(ONE - down_var[i] / fall, fall) if fall > 0 else ONE
                rho, sigma = rise * log(p * b), fall * log(q * d)
            bend = rho * b + sigma * d
            ratio = exp(bend)
            move = (rho * s + sigma * t) * ratio
            s = (s + b * move * HALF) / (ONE + p * b)  # in the middle of the way
            t = (t + d * move * HALF) / (ONE + q * d)
            s, t, growth = s * s, t * t, ONE + bend * ratio
            own = cycle * (rise * s + fall * t) + add * (rise + fall)
            after = x + move
            if up_var is not None:
                counts = up_var[i] * s + down_var[i] * t
                if z is None:
                    own += counts
                else:
                    after += z[i] * np.sqrt(growth * counts)
            if normal is not None:
                after += normal[i] * np.sqrt(growth * own)
            out[i] = after
