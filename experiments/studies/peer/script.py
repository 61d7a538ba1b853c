"""The protocol in aihwkit; run by the Python that has it, which has nothing of ours.

python script.py DEVICE SEED EPOCHS     prints its test accuracies [%] as JSON
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(name: str, seed: int, epochs: int) -> list[float]:
    """Test accuracy after every epoch."""
    import numpy as np
    import torch
    from aihwkit.nn import AnalogLinear, AnalogSequential
    from aihwkit.optim import AnalogSGD
    from aihwkit.simulator import configs
    from aihwkit.simulator.presets import devices
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    torch.set_num_threads(1)
    made: dict[str, Any] = {
        "constant step": configs.ConstantStepDevice,
        "linear step": configs.LinearStepDevice,
        "soft bounds": configs.SoftBoundsDevice,
        "ECRAM": devices.EcRamPresetDevice,
        "ReRAM-SB": devices.ReRamSBPresetDevice,
    }
    raw = load_digits()
    x = torch.tensor(raw.images / 16, dtype=torch.float32).flatten(1)
    y = torch.tensor(raw.target, dtype=torch.int64)

    def split(labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        every = np.arange(len(labels))
        parts = train_test_split(every, test_size=0.25, stratify=labels, random_state=seed)
        return torch.from_numpy(parts[0]), torch.from_numpy(parts[1])

    first, second = split(y, 0)  # the order in which the other side holds the images
    order = torch.cat([first, second])
    x, y = x[order], y[order]
    train, test = split(y, seed)
    torch.manual_seed(seed)
    config = configs.SingleRPUConfig(device=made[name](construction_seed=seed + 1))
    net = AnalogSequential(
        AnalogLinear(64, 128, rpu_config=config),
        torch.nn.Tanh(),
        AnalogLinear(128, 10, rpu_config=config),
    )
    optimiser = AnalogSGD(net.parameters(), lr=0.1)
    optimiser.regroup_param_groups(net)
    found = []
    for _ in range(epochs):
        net.train()
        for batch in train[torch.randperm(len(train))].split(10):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimiser.step()
        net.eval()
        with torch.no_grad():
            found.append(100 * float((net(x[test]).argmax(1) == y[test]).float().mean()))
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
