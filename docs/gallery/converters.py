"""
Converters with mismatch
========================

Eight-bit converters whose parts differ by some per cent. The integral nonlinearity, how far each
change of code lies from where it should be, tells the architecture: the capacitors of a
successive approximation jump where the highest bits change, the comparators of a flash are wrong
one by one, a pipeline's gain error makes a saw.
"""

import matplotlib.pyplot as plt
import torch

import crossbar as xb

kinds = {
    "SAR": xb.SAR(8, sigma_unit=0.1),
    "flash": xb.Flash(8, sigma_comparator=0.5),
    "pipeline": xb.Pipeline(8, sigma_stage=0.01),
}
lsb = 2 / (2**8 - 2)
current = torch.linspace(-1.02, 1.02, 40001, dtype=torch.float64)  # of the full scale


def changes(adc, leaf=None):
    """Currents at which each code begins, in codes."""
    codes = (adc.convert(current.unsqueeze(1), 1.0, leaf) / lsb).round().flatten()
    below = (codes < torch.arange(-126, 128).unsqueeze(1)).double().mean(1)
    return (below * 2.04 - 1.02) / lsb


fig, axes = plt.subplots(1, 3, figsize=(6.8, 2.6), sharey=True)
for axis, (name, adc) in zip(axes, kinds.items()):
    leaf = adc.fabricate((1,), torch.Generator().manual_seed(3))
    axis.plot(range(-126, 128), changes(adc, leaf) - changes(xb.ADC(8)), linewidth=0.9)
    axis.set_title(name)
axes[0].set_ylabel("integral nonlinearity\n[codes]")
axes[1].set_xlabel("code")
plt.show()
