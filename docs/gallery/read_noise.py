"""
Noise that is drawn anew, and noise that stays a while
======================================================

The same cell read three hundred times, a millisecond apart: white noise, a trap that catches and
releases charge (random telegraph), and both. White noise averages out over a few reads; a trap
shifts all reads until it releases.
"""

import matplotlib.pyplot as plt
import torch

import crossbar as xb
from devices import Device, GaussianRead, TelegraphRead

trap = {"amplitude": 0.06, "tau_high": 0.05, "tau_low": 0.03}
kinds = {
    "white": GaussianRead(0.01),
    "telegraph": TelegraphRead(**trap),
    "both": TelegraphRead(**trap, white=0.01),
}
fig, axes = plt.subplots(3, 1, figsize=(6.8, 4.2), sharex=True, sharey=True)
for axis, (name, read) in zip(axes, kinds.items()):
    A = xb.matrix(torch.full((1, 1), 0.5), xb.Chip(Device(1e-6, 50e-6, read=read)), seed=4)
    seen = []
    for _ in range(300):
        seen.append(float((A @ torch.ones(1))[0]))
        A.advance(1e-3)
    axis.plot(seen, linewidth=0.9)
    axis.set_title(name)
axes[2].set_xlabel("read, one a millisecond")
fig.supylabel("weight that is read")
plt.show()
