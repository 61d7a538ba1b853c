"""Sums over cells in one compiled pass, where Numba (extra `fast`) is; see `sums`."""

from __future__ import annotations

import numpy as np

try:
    import numba
except ImportError:
    lines = dense = sparse = None
else:

    @numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
    def lines(g, tile, ends, rows, cols):
        """Add g (m, rows, cols) up along lines: rows (m, across, rows), cols (m, down, cols).

        `tile` (rows,) is the row tile of each row, `ends` (across + 1,) where column tiles begin.
        """
        for m in range(g.shape[0]):
            for i in range(g.shape[1]):
                t = tile[i]
                for a in range(len(ends) - 1):
                    total = 0.0
                    for j in range(ends[a], ends[a + 1]):
                        x = np.float64(g[m, i, j])
                        total += x
                        cols[m, t, j] += x
                    rows[m, a, i] = total

    @numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
    def dense(up, down, g, tile, ends, out):
        """Σ up, Σ down, Σ up g, Σ down g of (m, rows, cols), tile by tile into out (4, D, A)."""
        for m in range(g.shape[0]):
            for i in range(g.shape[1]):
                t = tile[i]
                for a in range(len(ends) - 1):
                    n = d = ng = dg = 0.0
                    for j in range(ends[a], ends[a + 1]):
                        x = np.float64(g[m, i, j])
                        p = np.float64(up[m, i, j])
                        q = np.float64(down[m, i, j])
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
        one = out.shape[1] == 1 and out.shape[2] == 1
        for k in range(len(up)):
            t = a = 0
            if not one:
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
