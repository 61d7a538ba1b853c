"""
Ten per cent of the cells are stuck
===================================

The error of each weight of an array of which ten per cent of the cells are stuck at an end of
their window: as it is, with the free partner of each stuck cell correcting it, and with rows
placed around what remains.
"""

import matplotlib.pyplot as plt
import torch

import crossbar as xb
from devices import Device, SoftBounds, StuckAt

W = 0.3 * torch.randn(48, 64, generator=torch.Generator().manual_seed(0))
worn = Device(0.0, 50e-6, update=SoftBounds(0.05e-6), faults=StuckAt(p_off=0.05, p_on=0.05))
ways = {
    "as it is": xb.Chip(worn),
    "partners correct": xb.Chip(worn, xb.Differential(corrections=2)),
    "and rows placed": xb.Chip(worn, xb.Differential(corrections=2), spares=xb.Spares(rows=0.1)),
}
fig, axes = plt.subplots(1, 3, figsize=(6.8, 2.6), sharey=True)
for axis, (name, chip) in zip(axes, ways.items()):
    A = xb.matrix(W, chip, seed=1)
    off = (A.weight.T - W) / W.abs().max()
    image = axis.imshow(off, vmin=-1, vmax=1, cmap="RdBu")
    axis.set_title(f"{name}\nRMS {float(off.square().mean().sqrt()):.3f}", fontsize=9)
    axis.grid(False)
fig.colorbar(image, ax=axes, label="error, of the largest weight")
axes[0].set_ylabel("output")
axes[1].set_xlabel("input")
plt.show()
