"""Reads of aihwkit-lightning 2.1.0, which the site compares with ours.

pip install --no-deps aihwkit-lightning==2.1.0
python docs/data/make_lightning.py
"""

from pathlib import Path

import numpy as np
import torch
from aihwkit_lightning.nn import AnalogLinear
from aihwkit_lightning.simulator.configs import TorchInferenceRPUConfig

rng = np.random.default_rng(1)
w, x = rng.normal(size=(16, 48)), rng.normal(size=(64, 48))
out = {"w": w, "x": x}
for bits in (4, 6, 8):
    config = TorchInferenceRPUConfig()
    config.forward.inp_res = config.forward.out_res = 2**bits - 2
    config.forward.out_bound = 10.0
    config.pre_post.input_range.enable = True
    config.pre_post.input_range.init_value = 3.0
    layer = AnalogLinear(48, 16, bias=False, rpu_config=config).double().eval()
    layer.weight.data.copy_(torch.from_numpy(w))
    with torch.no_grad():
        out[f"y_{bits}"] = layer(torch.from_numpy(x.copy())).numpy()
np.savez_compressed(Path(__file__).parent / "lightning.npz", **out)
