"""
A neuron on an array, spike by spike
====================================

Thirty inputs fire at random; a leaky integrate-and-fire neuron hears them through one column of
cells. Its membrane charges with every spike, leaks, and is reset when it fires. The same input
twice: read noise moves some spikes.
"""

import matplotlib.pyplot as plt
import torch

import crossbar as xb
from crossbar import spiking as sp
from devices import Device, GaussianRead

torch.manual_seed(0)
x = sp.encode.poisson(torch.full((30,), 0.04), 100)  # (steps, inputs), 0 or 1
noisy = xb.Chip(Device(1e-6, 50e-6, read=GaussianRead(0.02)), xb.Differential(w_max=0.5))
A = xb.matrix(torch.full((1, 30), 0.2), noisy, seed=0)
fig, (raster, membrane) = plt.subplots(2, 1, figsize=(6.8, 4.2), sharex=True)
raster.eventplot([line.nonzero().flatten().tolist() for line in x.T], linewidths=1.2, color="C7")
raster.set_ylabel("input")
for k in range(2):
    neuron, state, path, fired = sp.LIF(sp.SnnTorch(0.9)), None, [], []
    for t, spikes in enumerate(x):
        out, state = neuron(A @ spikes, state)
        path.append(float(state.v))
        if out:
            fired.append(t)
    membrane.plot(path, label=f"read {k + 1}", linewidth=1.3)
    membrane.plot(fired, [1.75 + 0.15 * k] * len(fired), "|", color=f"C{k}", markersize=9)
membrane.set_ylabel("membrane")
membrane.set_xlabel("time step")
membrane.legend(loc="lower right")
plt.show()
