"""Inventories of other projects for intersphinx, from the names that our docstrings use.

Sphinx would fetch `objects.inv` from each project's site. Here `docs/inventories/*.txt` name what
is linked to, one a line (type, name, page), so that a build needs no network and a new name shows
up in a diff. The first line of a file is the project's address.
"""

import zlib
from pathlib import Path


def mapping(texts: Path, build: Path) -> dict[str, tuple[str, str]]:
    """Writes an inventory for every text; what `intersphinx_mapping` takes."""
    found = {}
    build.mkdir(parents=True, exist_ok=True)
    for text in sorted(texts.glob("*.txt")):
        address, *lines = text.read_text().split("\n")
        entries = [line.split() for line in lines if line]
        listed = "".join(f"{name} {kind} 1 {page} -\n" for kind, name, page in entries)
        head = f"# Sphinx inventory version 2\n# Project: {text.stem}\n# Version: \n"
        head += "# The remainder of this file is compressed using zlib.\n"
        inventory = build / f"{text.stem}.inv"
        inventory.write_bytes(head.encode() + zlib.compress(listed.encode()))
        found[text.stem] = (address, str(inventory))
    return found
