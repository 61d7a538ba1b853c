"""Sums over cells in one compiled pass, where Numba (extra `fast`) is; see `sums`."""

from __future__ import annotations

import numpy as np

try:
    import numba
except ImportError:
    lines = dense = sparse = driven = None
else:

    @numba.njit(nogil=True, cache=True, fastmath=True)
    def lines(g, tile, ends, rows, cols):
        """Add g (m, rows, cols) up along lines: rows (m, across, rows), cols (m, down, cols).

        `tile` (rows,) is the row tile of each row, `ends` (across + 1,) where column tiles begin.
        """
        for m in range(g.shape[0]):
            for i in range(g.shape[1]):
                line, down = g[m, i], cols[m, tile[i]]
                for a in range(len(ends) - 1):
                    # views of one tile's part: only then does the loop become vectors
                    part, into = line[ends[a] : ends[a + 1]], down[ends[a] : ends[a + 1]]
                    total = 0.0
                    for j in range(len(part)):
                        x = np.float64(part[j])
                        total += x
                        into[j] += x
                    rows[m, a, i] = total

    @numba.njit(nogil=True, cache=True, fastmath=True)
    def dense(up, down, g, tile, ends, out):
        """Σ up, Σ down, Σ up g, Σ down g of (m, rows, cols), tile by tile into out (4, D, A)."""
        for m in range(g.shape[0]):
            for i in range(g.shape[1]):
                t = tile[i]
                for a in range(len(ends) - 1):
                    first, last = ends[a], ends[a + 1]
                    cells = g[m, i, first:last]
                    ups, downs = up[m, i, first:last], down[m, i, first:last]
                    n = d = ng = dg = 0.0
                    for j in range(len(cells)):
                        x = np.float64(cells[j])
                        p = np.float64(ups[j])
                        q = np.float64(downs[j])
                        n += p
                        d += q
                        ng += p * x
                        dg += q * x
                    out[0, t, a] += n
                    out[1, t, a] += d
                    out[2, t, a] += ng
                    out[3, t, a] += dg

    @numba.njit(nogil=True, cache=True)
    def sparse(at, up, down, g, rows, cols, tile, across, out):
        """The same of the weights `at` (n,), flat in (..., rows, cols); g is flat."""
        if out.shape[1] == 1 and out.shape[2] == 1:
            n = d = ng = dg = 0.0
            for k in range(len(up)):
                x = np.float64(g[at[k]])
                p = np.float64(up[k])
                q = np.float64(down[k])
                n += p
                d += q
                ng += p * x
                dg += q * x
            out[0, 0, 0] = n
            out[1, 0, 0] = d
            out[2, 0, 0] = ng
            out[3, 0, 0] = dg
            return
        for k in range(len(up)):
            line = at[k] // cols
            t = tile[line % rows]
            a = across[at[k] - line * cols]
            x = np.float64(g[at[k]])
            p = np.float64(up[k])
            q = np.float64(down[k])
            out[0, t, a] += p
            out[1, t, a] += q
            out[2, t, a] += p * x
            out[3, t, a] += q * x

    @numba.njit(nogil=True, cache=True, fastmath=True)
    def driven(v, code, gamma, at, ends, scale, drives, power):
        """Add codes (n, lines) that are not zero to drives, and Σ v² Γ · scale to power.

        `gamma` is (sensed tiles, lines), drives (driven tiles,), power (driven, sensed); `at` says
        which driven tiles are in use, and lines ends[t] … ends[t + 1] are of at[t].
        """
        energy = np.zeros(v.shape[1])
        fired = np.zeros(v.shape[1])
        for k in range(v.shape[0]):
            one, other = v[k], code[k]
            for i in range(len(one)):
                x = np.float64(one[i])
                energy[i] += x * x
                fired[i] += other[i] != 0
        for t in range(len(at)):
            for i in range(ends[t], ends[t + 1]):
                drives[at[t]] += fired[i]
            for s in range(len(gamma)):
                total = 0.0
                for i in range(ends[t], ends[t + 1]):
                    total += energy[i] * gamma[s, i]
                power[at[t], s] += total * scale
