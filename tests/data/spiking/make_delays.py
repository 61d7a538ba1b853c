"""Currents and membranes of Brian2 2.10.1 where every synapse has a delay of its own.

Input synapses and recurrent ones, neurons in snnTorch's convention (reset by subtraction, a step
later). In an environment of its own (Python 3.12, brian2==2.10.1):

    python tests/data/spiking/make_delays.py
"""

from pathlib import Path

import brian2 as b
import numpy as np

b.prefs.codegen.target = "numpy"
HERE, MS = Path(__file__).parent, b.ms
INPUTS, SIZE, STEPS = 12, 8, 120
rng = np.random.default_rng(17)
spikes = np.nonzero(rng.random((STEPS, INPUTS)) < 0.25)
weights = {"in": 0.8 * (rng.random((SIZE, INPUTS)) - 0.4), "back": rng.random((SIZE, SIZE)) - 0.6}
delays = {"in": rng.integers(0, 10, (SIZE, INPUTS)), "back": rng.integers(0, 6, (SIZE, SIZE))}

b.defaultclock.dt = 1 * MS
source = b.SpikeGeneratorGroup(INPUTS, spikes[1], spikes[0] * MS)
neurons = b.NeuronGroup(SIZE, "v : 1\narriving : 1", threshold="v > 0.4", reset="")
neurons.run_regularly("arriving = 0", when="start")
neurons.run_regularly("v = 0.9 * v + arriving - 0.4 * int(v > 0.4)", when="after_synapses")
net = b.Network(source, neurons)
for name, before in (("in", source), ("back", neurons)):
    s = b.Synapses(before, neurons, "w : 1", on_pre="arriving_post += w")
    s.connect()
    s.w = weights[name][s.j[:], s.i[:]]
    s.delay = delays[name][s.j[:], s.i[:]] * MS
    net.add(s)
monitor = b.StateMonitor(neurons, ("arriving", "v"), record=True, when="end")
net.add(monitor)
net.run(STEPS * MS)
out = {"spikes": np.stack(spikes).astype(np.int32), "current": monitor.arriving, "v": monitor.v}
out |= {f"weight_{k}": w for k, w in weights.items()}
out |= {f"delay_{k}": d.astype(np.int64) for k, d in delays.items()}
np.savez_compressed(HERE / "delays.npz", **out)
print((out["v"] > 0.4).mean(), np.abs(out["v"] - 0.4).min())
