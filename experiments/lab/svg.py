"""The same drawing in fewer bytes: matplotlib's SVG for a page that holds many."""

from __future__ import annotations

import re


def thin(svg: str) -> str:
    """Coordinates to a tenth of a point, every look said once, no metadata, no layout.

    Cells of a field are one path a colour. Tags have single quotes, which an address need not
    escape.
    """
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    svg = re.sub(r'="[^"<>]*"', _rounded, svg)
    svg = re.sub(r' transform="rotate\(-?0 [^"]*"', "", svg)
    svg = re.sub(r'(?<=<g id="QuadMesh_)(\d+">)(.*?)(?=</g>)', _joined, svg)
    svg = re.sub(r' d="([^"]*)"', _tight, svg)
    named = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda own: own[0] if own[1] in named else "", svg)
    svg = re.sub(r"> <", "><", _classes(svg))
    bare, count = re.compile(r"<g>((?:(?!</?g[ >]).)*)</g>"), 1
    while count:  # groups that group nothing, from the innermost
        svg, count = bare.subn(r"\1", svg)
    return re.sub(r"<[^<>]*>", _single, svg)


def _rounded(attribute: re.Match[str]) -> str:
    return re.sub(r"(\d\d\.\d|\b\d\.\d\d)\d+", r"\1", attribute.group())


def _joined(mesh: re.Match[str]) -> str:
    """Cells that look alike as one path; each from a corner by its two sides."""
    alike: dict[str, list[str]] = {}
    for path, look in re.findall(r'<path d="([^"]*)"([^>]*)/>', mesh[2]):
        (x, y), _, (far, low), *_ = (p.split() for p in re.findall(r"[ML] ([^LMz]*)", path))
        alike.setdefault(look, []).append(f"M{x} {y}H{far}V{low}H{x}z")
    return mesh[1] + "".join(f'<path d="{"".join(d)}"{look}/>' for look, d in alike.items())


def _tight(path: re.Match[str]) -> str:
    """No blanks around letters; after a first one, lines need none."""
    short = re.sub(r" ?([A-Za-z]) ?", r"\1", path[1]).strip()
    short = re.sub(r"(?<=L)[^A-KM-Za-z]*", lambda run: run[0].replace("L", " "), short)
    return f' d="{short}"'


def _classes(svg: str) -> str:
    """Looks as classes of one style sheet."""
    looks = dict.fromkeys(re.findall(r' style="([^"]*)"', svg))
    names = {look: f"c{n}" for n, look in enumerate(looks)}
    svg = re.sub(r' style="([^"]*)"', lambda own: f' class="{names[own[1]]}"', svg)
    sheet = "".join(f".{name}{{{look}}}" for look, name in names.items())
    return svg.replace("</style>", f"{sheet}</style>", 1)


def _single(tag: re.Match[str]) -> str:
    return tag.group().replace("'", "&#39;").replace('"', "'")
