"""NARMA-10 of reservoirpy 0.4.2 (`pip install --no-deps reservoirpy==0.4.2`).

python tests/data/spiking/make_narma.py
"""

from pathlib import Path

import numpy as np
from reservoirpy.datasets import narma

u, y = narma(300, order=10, a1=0.3, a2=0.05, b=1.5, c=0.1, seed=3)
np.savez_compressed(Path(__file__).parent / "narma.npz", u=u[:, 0], y=y[:, 0])
print(u.shape, y.shape, y[:3, 0])
