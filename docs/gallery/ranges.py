"""
The range of a converter: clip or coarse
========================================

A six-bit converter behind 256 rows of non-negative inputs. A narrow range clips the large
products, a wide one leaves few codes for the rest; the least error lies in between. Dashed: what
the ranges that set themselves attain, whatever their width.
"""

import matplotlib.pyplot as plt
import torch

import crossbar as xb

torch.manual_seed(0)
W, x = torch.randn(64, 256) / 16, torch.rand(500, 256)
exact = x @ W.T


def read(span):
    """Relative error, and the share of conversions at full scale."""
    A = xb.matrix(W, xb.Chip(forward=xb.Periphery(adc=xb.ADC(6, range=span))), seed=0)
    if isinstance(span, xb.Calibrated | xb.LeastError):
        xb.calibrate(A, [x[:100].T])
    with xb.observe(A, xb.Tally(A)) as tally:
        y = (A @ x.T).T
    return float((y - exact).norm() / exact.norm()), tally["matrix"].clipped


currents = torch.logspace(-5, -2.5, 40).tolist()  # [A]
found = [read(xb.Fixed(current)) for current in currents]
fig, error = plt.subplots()
clipped = error.twinx()
clipped.grid(False)
clipped.fill_between(currents, [100 * c for _, c in found], color="C1", alpha=0.2)
clipped.set_ylabel("conversions at full scale [%]", color="C1")
error.loglog(currents, [e for e, _ in found], label="fixed")
for k, span in enumerate((xb.Fixed(), xb.LeastError(), xb.PerVector())):
    name = "from the cells (default)" if span == xb.Fixed() else type(span).__name__
    error.axhline(read(span)[0], color=f"C{k + 2}", linestyle="--", linewidth=1.2, label=name)
error.set_xlabel("full scale [A]")
error.set_ylabel("relative error of the product")
error.legend(loc="lower left", bbox_to_anchor=(0.02, 0.05))
plt.show()
