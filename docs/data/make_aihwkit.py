"""Curves, codes and a trained network of aihwkit 1.2.0, which the site compares with ours.

In an environment of its own (Python 3.12, aihwkit==1.2.0, scikit-learn):

    python docs/data/make_aihwkit.py
"""

from pathlib import Path

import numpy as np
import torch
from aihwkit.nn import AnalogLinear
from aihwkit.optim import AnalogSGD
from aihwkit.simulator.configs import (
    ConstantStepDevice,
    FloatingPointRPUConfig,
    LinearStepDevice,
    SingleRPUConfig,
    SoftBoundsDevice,
)
from aihwkit.simulator.parameters import (
    BoundManagementType,
    NoiseManagementType,
    UpdateParameters,
)
from aihwkit.simulator.tiles import AnalogTile

torch.set_num_threads(1)
EXACT = {
    "dw_min_std": 0.0,
    "dw_min_dtod": 0.0,
    "up_down_dtod": 0.0,
    "w_max_dtod": 0.0,
    "w_min_dtod": 0.0,
}
DEVICES = {
    "constant": ConstantStepDevice(dw_min=0.01, up_down=0.0, w_max=1.0, w_min=-1.0, **EXACT),
    "soft": SoftBoundsDevice(dw_min=0.01, up_down=0.0, w_max=1.0, w_min=-1.0, **EXACT),
    "linear": LinearStepDevice(
        dw_min=0.01,
        up_down=0.0,
        w_max=1.0,
        w_min=-1.0,
        gamma_up=0.5,
        gamma_down=0.8,
        gamma_up_dtod=0.0,
        gamma_down_dtod=0.0,
        **EXACT,
    ),
}
out: dict[str, np.ndarray] = {}


def curve(device: object) -> np.ndarray:
    """The weight after each of 300 pulses up and 300 down, one at a time."""
    config = SingleRPUConfig(device=device)
    config.forward.is_perfect = config.backward.is_perfect = True
    config.update = UpdateParameters(
        desired_bl=1, update_management=False, update_bl_management=False
    )
    tile = AnalogTile(1, 1, config)
    tile.set_learning_rate(1.0)
    tile.set_weights(torch.zeros(1, 1))
    found = [0.0]
    for k in range(600):  # probability 1: one pulse
        tile.update(torch.ones(1, 1), torch.full((1, 1), -1.0 if k < 300 else 1.0))
        found.append(float(tile.get_weights()[0]))
    return np.array(found)


for name, device in DEVICES.items():
    out[f"curve_{name}"] = curve(device)

# reads: codes of an input and an output converter, no noise
config = SingleRPUConfig(device=DEVICES["constant"])
config.forward.inp_res, config.forward.out_res = 1 / 126, 1 / 254
config.forward.out_bound, config.forward.out_noise = 4.0, 0.0
config.forward.noise_management = NoiseManagementType.ABS_MAX
config.forward.bound_management = BoundManagementType.NONE
layer = AnalogLinear(48, 16, bias=False, rpu_config=config)
rng = np.random.default_rng(0)
w = rng.uniform(-1, 1, (16, 48)).astype(np.float32)
x = rng.normal(size=(64, 48)).astype(np.float32)
layer.set_weights(torch.from_numpy(w), None)
layer.eval()
out["read_w"], out["read_x"] = w, x
out["read_y"] = layer(torch.from_numpy(x)).detach().numpy()

# training: digits, 64-10, plain pulses; soft bounds with all their spreads as they come
from sklearn.datasets import load_digits  # noqa: E402

data = load_digits()
images = torch.tensor(data.data / 16, dtype=torch.float32)
labels = torch.tensor(data.target)
order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
train, test = order[:1400], order[1400:]


def trained(seed: int, digital: bool) -> list[float]:
    """Test accuracy after each of three epochs."""
    torch.manual_seed(seed)
    config = (
        FloatingPointRPUConfig()
        if digital
        else SingleRPUConfig(device=SoftBoundsDevice(construction_seed=seed + 1))
    )
    model = AnalogLinear(64, 10, bias=False, rpu_config=config)
    optimizer = AnalogSGD(model.parameters(), lr=0.1)
    optimizer.regroup_param_groups(model)
    found = []
    for _ in range(3):
        for rows in train[torch.randperm(len(train))].split(10):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            found.append(
                100 * float((model(images[test]).argmax(1) == labels[test]).float().mean())
            )
    return found


out["accuracy_soft"] = np.array([trained(seed, False) for seed in range(4)])
out["accuracy_digital"] = np.array([trained(seed, True) for seed in range(4)])
np.savez_compressed(Path(__file__).parent / "aihwkit.npz", **out)
for name, value in out.items():
    print(name, value.shape, value.reshape(-1)[:3])
