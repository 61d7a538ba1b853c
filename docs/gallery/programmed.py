"""
What is written, and what stands there a month later
====================================================

Two thousand cells of phase-change memory written to each of four targets: right after writing,
and thirty days later, when each has drifted by an exponent of its own.
"""

import matplotlib.pyplot as plt
import torch

from devices import presets

device = presets.pcm()
draw = torch.Generator().manual_seed(0)
fig, axes = plt.subplots(2, 1, figsize=(6.8, 3.6), sharex=True)
for k, share in enumerate((0.2, 0.4, 0.6, 0.8)):
    target = torch.full((2000,), device.g_min + share * device.window.span)
    state = device.program(device.fabricate((2000,), generator=draw), target, generator=draw)
    later = device.advance(state, 30 * 86400.0, generator=draw)
    for axis, cells in zip(axes, (state, later)):
        axis.hist(1e6 * device.seen(cells), bins=80, range=(0, 30), color=f"C{k}", alpha=0.7)
        axis.axvline(1e6 * target[0], color=f"C{k}", linestyle=":")
axes[0].set_title("just written")
axes[1].set_title("after 30 days")
axes[1].set_xlabel("conductance [µS], targets dotted")
fig.supylabel("cells")
plt.show()
