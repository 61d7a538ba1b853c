"""What gives saved conductances their meaning, and the refusal of another chip's."""

from __future__ import annotations

import json

from crossbar.chip import Chip
from crossbar.modes import InSitu, Mode

VERSION = 3
"""Of the layout of checkpoints; 1 was that of version 0.1, which said nothing of its chip."""


def identity(chip: Chip, mode: Mode) -> str:
    """Cells, mapping and rule as text; converters and tiles give a state no other meaning."""
    device = chip.device
    parts = {
        "window": list(device.window),
        "update": repr(device.update),
        "read": repr(device.read),
        "retention": repr(device.retention),
        "faults": repr(device.faults),
        "mapping": repr(chip.mapping),
        "rule": repr(mode.rule) if isinstance(mode, InSitu) and mode.slots()[1:] else "",
        "written": mode.written,
    }
    if mode.compact:
        parts["compact"] = True
    return json.dumps({"version": VERSION, **parts})


def same_chip(text: str, chip: Chip, mode: Mode, name: str) -> None:
    """Refuse a state of cells that was saved on another chip.

    Raises:
        ValueError: it names what differs.
    """
    saved, mine = json.loads(text), json.loads(identity(chip, mode))
    if saved["version"] != VERSION:
        raise ValueError(
            f"{name}: the checkpoint has layout {saved['version']!r}, this version reads {VERSION}"
        )
    for part in {**mine, **saved}:
        value = mine.get(part, False)
        if saved.get(part, False) != value:
            raise ValueError(
                f"{name}: the checkpoint was saved with another {part}, {saved.get(part, False)}, "
                f"than this chip's {value}; load it into a model converted with its own chip, then "
                "move that with convert(model, chip)"
            )
