"""Weights of Brian2 2.10.1 under pair, triplet and reward-modulated STDP on random spike trains.

In an environment of its own (Python 3.12, brian2==2.10.1):

    python tests/data/spiking/make_brian.py
"""

from pathlib import Path

import brian2 as b
import numpy as np

b.prefs.codegen.target = "numpy"
HERE, DT = Path(__file__).parent, 0.1
ROWS, COLS, STEPS = 6, 4, 4_000
rng = np.random.default_rng(11)
pre_steps = np.nonzero(rng.random((STEPS, ROWS)) < 0.01)  # 100 Hz at 0.1 ms
post_steps = np.nonzero(rng.random((STEPS, COLS)) < 0.01)
# pairs that coincide on purpose
many = rng.choice(len(pre_steps[0]), 80, replace=False)
post = np.zeros((STEPS, COLS), dtype=bool)
post[post_steps] = True
for k in many:
    post[pre_steps[0][k], rng.integers(COLS)] = True
post_steps = np.nonzero(post)
w0 = rng.random((ROWS, COLS))
out = {
    "pre": np.stack(pre_steps).astype(np.int32),
    "post": np.stack(post_steps).astype(np.int32),
    "start": w0,
}


def run(name: str, model: str, on_pre: str, on_post: str, reward: bool = False) -> None:
    b.start_scope()
    b.defaultclock.dt = DT * b.ms
    a = b.SpikeGeneratorGroup(ROWS, pre_steps[1], pre_steps[0] * DT * b.ms)
    c = b.SpikeGeneratorGroup(COLS, post_steps[1], post_steps[0] * DT * b.ms)
    s = b.Synapses(a, c, model, on_pre=on_pre, on_post=on_post, method="exact")
    s.connect()
    s.w = w0[s.i[:], s.j[:]]
    if reward:
        s.run_regularly(
            "w = clip(w + 3 * sin(0.9 * t / (50*ms)) * c, 0, 1)", dt=50 * b.ms, when="end"
        )
    net = b.Network(a, c, s)
    net.run(STEPS * DT * b.ms)
    w = np.zeros((ROWS, COLS))
    w[s.i[:], s.j[:]] = s.w[:]
    out[name] = w


TRACES = """
w : 1
dx/dt = -x / (20*ms) : 1 (clock-driven)
dy/dt = -y / (34*ms) : 1 (clock-driven)
"""
# amplitudes large enough that weights meet their bounds
run("pair", TRACES, "x += 0.12; w = clip(w + y, 0, 1)", "y -= 0.09; w = clip(w + x, 0, 1)")
run("nearest", TRACES, "x = 0.03; w = clip(w + y, 0, 1)", "y = -0.02; w = clip(w + x, 0, 1)")
run(
    "triplet",
    """
    w : 1
    dr1/dt = -r1 / (16.8*ms) : 1 (clock-driven)
    dr2/dt = -r2 / (101*ms) : 1 (clock-driven)
    do1/dt = -o1 / (33.7*ms) : 1 (clock-driven)
    do2/dt = -o2 / (125*ms) : 1 (clock-driven)
    """,
    "w = clip(w - o1 * (0.014 + 0.001 * r2), 0, 1); r1 += 1; r2 += 1",
    "w = clip(w + r1 * (0.002 + 0.0093 * o2), 0, 1); o1 += 1; o2 += 1",
)
run(
    "reward",
    TRACES + "dc/dt = -c / (100*ms) : 1 (clock-driven)\n",
    "x += 0.03; c += y",
    "y -= 0.02; c += x",
    reward=True,
)
np.savez_compressed(HERE / "brian.npz", **out)
print({k: v.mean() for k, v in out.items() if v.shape == (ROWS, COLS)})
