"""Coincidences gathered cell by cell in one compiled loop; needs Numba (extra `fast`).

The bits are those that torch drew: with Numba and without it the same cells get the same pulses.
"""

from __future__ import annotations

import numpy as np

try:
    import numba
except ImportError:
    met = struck = split = None
else:
    FEW = 24
    """Coincidences of a row up to which its cells are sorted; else all of the row are looked at."""

    @numba.njit(nogil=True, cache=True)
    def listed(d):
        """2 · column + (positive) of the bits (slots, cols) that are set, and where slots begin."""
        first = np.zeros(len(d) + 1, np.int64)
        for s in range(len(d)):
            first[s + 1] = first[s] + np.count_nonzero(d[s])
        found = np.empty(first[-1], np.int32)
        n = 0
        for s in range(len(d)):
            for c in range(d.shape[1]):
                if d[s, c]:
                    found[n] = 2 * c + (d[s, c] > 0)
                    n += 1
        return found, first

    @numba.njit(nogil=True, cache=True)
    def met(x, d):
        """How many coincidences there are, of x (rows, slots) and d (slots, cols)."""
        fired = np.zeros(len(d), np.int64)
        for r in range(len(x)):
            for s in range(x.shape[1]):
                fired[s] += x[r, s] != 0
        total = 0
        for s in range(len(d)):
            total += fired[s] * np.count_nonzero(d[s])
        return total

    @numba.njit(nogil=True, cache=True)
    def struck(x, d, at, up, down, order, begin, done, cell):
        """Write places and counts of the weights that are hit, from number `begin`.

        x (rows, slots) and d (slots, cols) are signed bits, `cell` the number of the first weight.
        `order`, if any, is given 1 for up, 0 for down pulses, those of a cell in the order of
        slots, from number `done`. Returns where both end.
        """
        found, first = listed(d)
        cols = d.shape[1]
        one = np.array([1, 1 << 32])
        count = np.zeros(cols, np.int64)  # of up pulses, and from bit 32 of down pulses
        place = np.empty(cols, np.int64)
        seen = np.empty(cols, np.int32)
        for r in range(len(x)):
            total = 0
            for s in range(x.shape[1]):
                if x[r, s]:
                    total += first[s + 1] - first[s]
            n = 0
            if total <= FEW:
                for s in range(x.shape[1]):
                    if x[r, s]:
                        for k in range(first[s], first[s + 1]):
                            c = found[k] >> 1
                            if not count[c]:
                                seen[n] = c
                                n += 1
                            count[c] += one[(found[k] & 1) ^ (x[r, s] < 0)]
                for i in range(1, n):
                    c, j = seen[i], i
                    while j and seen[j - 1] > c:
                        seen[j] = seen[j - 1]
                        j -= 1
                    seen[j] = c
            else:
                for s in range(x.shape[1]):
                    if x[r, s]:
                        flip = x[r, s] < 0
                        for k in range(first[s], first[s + 1]):
                            count[found[k] >> 1] += one[(found[k] & 1) ^ flip]
                for c in range(cols):
                    seen[n] = c
                    n += count[c] != 0
            for i in range(n):
                c = seen[i]
                rise, fall = count[c] & 0xFFFFFFFF, count[c] >> 32
                at[begin + i], up[begin + i], down[begin + i] = cell + r * cols + c, rise, fall
                count[c], place[c] = 0, done
                done += rise + fall
            begin += n
            if order is not None:
                for s in range(x.shape[1]):
                    if x[r, s]:
                        for k in range(first[s], first[s + 1]):
                            c = found[k] >> 1
                            order[place[c]] = (found[k] & 1) == (x[r, s] < 0)
                            place[c] += 1
        return begin, done

    @numba.njit(nogil=True, cache=True)
    def split(total, up, down):
        """The counts of `crossbar.pulses.bits.digits`, over flat arrays."""
        for i in range(len(total)):
            whole = np.int32(total[i])
            up[i] = (whole >> 8) & 255
            down[i] = (whole & 255) + (whole >> 16)
