"""The README's python blocks run as they stand, in order, in one namespace."""

import re
from pathlib import Path
from typing import Any

import torch

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_python_blocks_run() -> None:
    text = README.read_text()
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python") >= 2
    torch.manual_seed(0)
    namespace: dict[str, Any] = {
        "net": torch.nn.Sequential(
            torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10)
        ),
        "x": torch.randn(64),
        "W": torch.randn(10, 64) / 8,
    }
    for block in blocks:
        # blank lines in front, so that a traceback names the line of the README
        source = "\n" * text.count("\n", 0, block.start(1)) + block.group(1)
        exec(compile(source, str(README), "exec"), namespace)
    assert namespace["now"].shape == (128, 784)
    exact = namespace["W"] @ namespace["x"]
    assert (namespace["y"] - exact).norm() < 0.2 * exact.norm()
