"""The site's style of figures for the scripts of the gallery, which run in Sphinx's own process."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

STYLE = Path(__file__).resolve().parent.parent / "_static" / "matplotlibrc"


def reset(gallery_conf: dict[str, Any], name: str) -> None:
    """Before every script; sphinx-gallery's own would set matplotlib's defaults."""
    mpl.rc_file(STYLE)
