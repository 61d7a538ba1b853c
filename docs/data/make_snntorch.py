"""A network of snnTorch 1.0.0, trained there: losses, accuracies, spikes, which the site compares.

In an environment with torch, scikit-learn and snntorch==1.0.0 (`pip install --no-deps`, then nir):

    python docs/data/make_snntorch.py
"""

from pathlib import Path

import numpy as np
import snntorch as snn
import torch
from sklearn.datasets import load_digits
from snntorch import functional as SF
from torch import nn

torch.set_num_threads(1)
STEPS, BATCH, EPOCHS = 10, 50, 3

data = load_digits()
images = torch.tensor(data.data / 16, dtype=torch.float32)
labels = torch.tensor(data.target)
rng = np.random.default_rng(0)
order = rng.permutation(len(labels))
train, test = order[:1400], order[1400:]
batches = np.concatenate([rng.permutation(train).reshape(-1, BATCH) for _ in range(EPOCHS)])


class Net(nn.Module):
    """64-48-10, as snnTorch's tutorials write it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(64, 48), snn.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(48, 10), snn.Leaky(beta=0.9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Spikes of every step."""
        mem1, mem2, spikes = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for _ in range(STEPS):
            spk1, mem1 = self.lif1(self.fc1(x), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
        return torch.stack(spikes)


torch.manual_seed(0)
net = Net()
out: dict[str, np.ndarray] = {"train": train, "test": test, "batches": batches}
out |= {f"start.{name}": p.detach().numpy().copy() for name, p in net.named_parameters()}
optimizer, losses, scores = torch.optim.Adam(net.parameters(), 2e-3), [], []
for k, rows in enumerate(batches):
    optimizer.zero_grad()
    loss = SF.ce_count_loss()(net(images[rows]), labels[rows])
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if (k + 1) % (len(train) // BATCH) == 0:
        with torch.no_grad():
            right = net(images[test]).sum(0).argmax(1) == labels[test]
        scores.append(100 * right.float().mean().item())
out |= {f"end.{name}": p.detach().numpy() for name, p in net.named_parameters()}
with torch.no_grad():
    spikes = net(images[test])
out["spikes"] = np.packbits(spikes.numpy().astype(bool))
out["loss"], out["accuracy"] = np.array(losses), np.array(scores)
np.savez_compressed(Path(__file__).parent / "snntorch.npz", **out)
print(f"snnTorch {snn.__version__}, torch {torch.__version__}: {scores}, loss {losses[-1]:.4f}")
