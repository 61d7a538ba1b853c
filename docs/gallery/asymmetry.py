"""
Steps up and down, and where they agree
=======================================

A pulse moves a cell by a step that depends on where it is. Plain gradient descent with noisy
gradients drifts to the state in which a step up undoes a step down, the symmetry point: in the
middle for soft bounds, elsewhere for a cell whose steps differ, nowhere for constant steps.
"""

import matplotlib.pyplot as plt
import torch

from devices import ConstantStep, Device, ExpStep, Pulses, SoftBounds

laws = {
    "constant": ConstantStep(1e-6),
    "soft bounds": SoftBounds(1e-6),
    "exponential": ExpStep(1e-6),
}
fig, axes = plt.subplots(1, 3, figsize=(6.8, 2.6), sharey=True)
for axis, (name, law) in zip(axes, laws.items()):
    device = Device(0.0, 50e-6, update=law)
    start = torch.linspace(0.02, 0.98, 49, dtype=torch.float64) * 50e-6
    one, none = torch.ones(49), torch.zeros(49)
    for label, pulses in {"up": Pulses(one, none), "down": Pulses(none, one)}.items():
        state = device.program(device.fabricate((49,), dtype=torch.float64), start)
        moved = device.pulse(state, pulses).g - state.g
        axis.plot(1e6 * start, 1e6 * moved.abs(), label=label)
    axis.set_title(name)
axes[0].set_ylabel("size of a step [µS]")
axes[1].set_xlabel("conductance before it [µS]")
axes[2].legend()
plt.show()
