"""
Solving equations on an analog array
====================================

An array of eight-bit cells multiplies, a processor corrects: flexible GMRES around the noisy
array reaches ten digits. The worse the matrix is conditioned, the more products it takes.
"""

import matplotlib.pyplot as plt
import torch

import crossbar as xb
from devices import Device, FiniteLevels, GaussianRead

torch.manual_seed(0)
n = 128
u, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))
b = torch.randn(n, dtype=torch.float64)
cells = Device(1e-6, 50e-6, write=FiniteLevels(256), read=GaussianRead(0.002))
for condition in (2, 5, 20, 100):
    values = torch.logspace(0, -torch.tensor(float(condition)).log10(), n, dtype=torch.float64)
    A = xb.matrix(u * values @ u.T, xb.Chip(cells), seed=0)
    found = A.solve(b)
    plt.semilogy(found.residuals, label=f"condition number {condition}: {found.verdict}")
plt.xlabel("iteration")
plt.ylabel("relative residual")
plt.legend()
plt.show()
