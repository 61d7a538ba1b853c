"""Spike trains of snnTorch 1.0.0, SpikingJelly 2.0.0 and Norse 1.1.0, fed the same currents.

In an environment with torch and, each by `pip install --no-deps`, snntorch==1.0.0,
spikingjelly==2.0.0, loguru, norse==1.1.0, nir, h5py:

    python tests/data/spiking/make_peers.py
"""

import sys
from pathlib import Path

import numpy as np
import snntorch as snn
import torch
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
from norse.torch.functional.reset import reset_subtract
from norse.torch.module.lif_box import LIFBoxCell
from snntorch import functional as SF
from snntorch import surrogate
from spikingjelly.activation_based import neuron
from spikingjelly.activation_based import surrogate as jelly

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from _currents import currents, grid  # noqa: E402

out: dict[str, np.ndarray] = {}


def keep(name: str, spikes: list[torch.Tensor], v: torch.Tensor) -> None:
    s = torch.stack(spikes)
    out[f"{name}.spikes"] = np.packbits(s.detach().numpy().astype(bool))
    out[f"{name}.v"] = v.detach().numpy()


def leaky(name: str, x: torch.Tensor, beta: float = 0.9, **options: object) -> None:
    lif = snn.Leaky(beta=beta, **options)
    v, spikes = lif.init_leaky(), []
    for now in x:
        s, v = lif(now, v)
        spikes.append(s)
    keep(name, spikes, v)


def box(name: str, x: torch.Tensor, **options: object) -> None:
    cell = LIFBoxCell(p=LIFBoxParameters(v_th=torch.tensor(0.3), **options))
    state, spikes = LIFBoxFeedForwardState(v=torch.zeros_like(x[0])), []
    for now in x:
        s, state = cell(now, state)
        spikes.append(s)
    keep(name, spikes, state.v)


def node(name: str, x: torch.Tensor, kind: type = neuron.LIFNode, **options: object) -> None:
    lif = kind(step_mode="m", **options)
    keep(name, list(lif(x)), lif.v)


x = currents()
leaky("snntorch-subtract", x)
leaky("snntorch-zero", x, reset_mechanism="zero")
leaky("snntorch-none", x, reset_mechanism="none")
leaky("snntorch-subtract-now", x, reset_delay=False)
leaky("snntorch-zero-now", x, reset_mechanism="zero", reset_delay=False)
leaky("snntorch-large-now", 4 * x, reset_delay=False)
leaky("snntorch-grid", grid(), beta=1.0)
synaptic = snn.Synaptic(alpha=0.8, beta=0.9)
i, v = synaptic.init_synaptic()
spikes = []
for now in 0.3 * x:
    s, i, v = synaptic(now, i, v)
    spikes.append(s)
keep("snntorch-synaptic", spikes, v)
node("spikingjelly-hard", 8 * x, tau=10.0)
node("spikingjelly-soft", x, tau=10.0, decay_input=False, v_reset=None)
node("spikingjelly-large", 4 * x, tau=10.0, decay_input=False, v_reset=None)
node("spikingjelly-below", 8 * x, tau=10.0, v_reset=-0.5)
node("spikingjelly-if", x - 0.15, neuron.IFNode, v_reset=None)
node("spikingjelly-grid", grid(), neuron.IFNode, v_reset=None)
box("norse-zero", x)
box("norse-subtract", x, reset_method=reset_subtract)

# gradients of a small loss through 50 steps, to every current
weight = torch.linspace(-1, 1, 20)
for name, lif in (
    ("atan", snn.Leaky(beta=0.9, spike_grad=surrogate.atan(alpha=2.0))),
    ("fast", snn.Leaky(beta=0.9, spike_grad=surrogate.fast_sigmoid(slope=25))),
    ("atan-zero", snn.Leaky(beta=0.9, spike_grad=surrogate.atan(), reset_mechanism="zero")),
    ("atan-now", snn.Leaky(beta=0.9, spike_grad=surrogate.atan(), reset_delay=False)),
):
    given = x[:50, :20].clone().requires_grad_()
    v, total = lif.init_leaky(), 0.0
    for t, now in enumerate(given):
        s, v = lif(now, v)
        total = total + (s * weight).sum() * (1 + t / 50)
    total.backward()
    out[f"gradient-{name}"] = given.grad.numpy()
for name, lif in (
    ("jelly", neuron.LIFNode(10.0, False, v_reset=None, surrogate_function=jelly.Sigmoid(4.0))),
    ("jelly-hard", neuron.LIFNode(10.0, False, surrogate_function=jelly.Sigmoid(4.0))),
    ("jelly-detached", neuron.LIFNode(10.0, False, detach_reset=True)),
):
    given = x[:50, :20].clone().requires_grad_()
    total = 0.0
    for t, now in enumerate(given):
        total = total + (lif(now) * weight).sum() * (1 + t / 50)
    total.backward()
    out[f"gradient-{name}"] = given.grad.numpy()

# losses of snnTorch
spikes = (x[:30, :40] > 0.5).float().view(30, 4, 10)
target = torch.tensor([3, 1, 4, 1])
losses = (SF.ce_rate_loss(), SF.ce_count_loss(), SF.mse_count_loss(0.8, 0.2))
out["losses"] = np.array([float(loss(spikes, target)) for loss in losses])
# a recurrent neuron, snnTorch's RLeaky, with a fixed matrix
matrix = 0.1 * torch.tensor([[np.sin(1.7 * i + 0.3 * j * j) for j in range(20)] for i in range(20)])
matrix = matrix.float()
recurrent = snn.RLeaky(beta=0.9, all_to_all=True, linear_features=20)
with torch.no_grad():
    recurrent.recurrent.weight.copy_(matrix)
    recurrent.recurrent.bias.zero_()
s, v = recurrent.init_rleaky()
spikes = []
with torch.no_grad():
    for now in x[:200, :20]:
        s, v = recurrent(now.unsqueeze(0), s, v)
        spikes.append(s)
keep("snntorch-recurrent", spikes, v)
np.savez_compressed(HERE / "peers.npz", **out)
