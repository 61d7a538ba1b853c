"""What the header of a column says: which quantity, in which unit."""

from __future__ import annotations

import re
from typing import NamedTuple

PREFIX = {"": 1.0, "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3}
PREFIX |= {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
BASE = {
    "conductance": ("S", "Siemens", "siemens", "mho"),
    "resistance": ("ohm", "Ohm", "OHM", "ohms", "Ohms", "Ω", "Ω"),
    "current": ("A", "Amp", "Amps", "amp", "ampere", "Ampere"),
    "voltage": ("V", "Volt", "Volts", "volt", "volts"),
    "time": ("s", "sec", "second", "seconds"),
}
UNITS: dict[str, tuple[str, float]] = {
    prefix + base: (kind, factor)
    for kind, bases in BASE.items()
    for base in bases
    for prefix, factor in PREFIX.items()
} | {"min": ("time", 60.0), "h": ("time", 3600.0), "d": ("time", 86400.0)}
"""Unit as written → quantity and its size in SI."""

ROLES = {
    "cell": "cell zelle device dev dut cellid deviceid sample bit cellnumber devicenumber id",
    "cycle": "cycle zyklus cyc sweep run repetition loop trace cyclenumber cycleid",
    "pulse": "pulse pulses puls pulsnummer pulszahl pulsenumber pulseno pulsenum pulsecount "
    "pulseindex n npulse npulses "
    "numberofpulses ofpulses pulseid nr no number step steps index count",
    "polarity": "polarity polarität polaritaet richtung direction dir pulsetype operation mode op "
    "sign type pulsedirection",
    "conductance": "conductance leitwert g cond gread readconductance conductances",
    "resistance": "resistance widerstand r rread readresistance res",
    "current": "current strom i iread readcurrent id ids iout",
    "voltage": "voltage spannung v vread readvoltage vr vd vds drainvoltage",
    "amplitude": "amplitude amp vpulse pulsevoltage pulseamplitude writevoltage vwrite vw vprog "
    "programvoltage programmingvoltage vset vg vgs gatevoltage pulseheight",
    "width": "width pulsewidth duration tpulse pulseduration tw pulselength",
    "time": "time t timestamp elapsed",
    "up": "ltp potentiation pot set up ltpdata expltpraw increase",
    "down": "ltd depression dep reset down ltddata expltdraw decrease",
}
NAMES = {name: role for role, names in ROLES.items() for name in names.split()}
SERIES = ("cell", "device", "dev", "dut", "cycle", "cyc", "run", "sweep", "ramp", "rmp", "trace")
"""Words that number the columns of a wide table; all but the first four are of one cell."""
SPREAD = {"std", "stdev", "sd", "sem", "err", "error", "sigma", "deviation", "variance", "var"}
"""Words of columns that say how far reads scatter."""


class Column(NamedTuple):
    """One column's meaning."""

    role: str  # a key of ROLES, "pulse up" or "time down" of one ramp, "" if it says nothing
    kind: str  # quantity of its unit, or ""
    factor: float  # its unit in SI; 1 where it names none
    unit: str  # as written, or ""
    label: str  # the name without its unit
    number: str  # what numbers it among its like ("3" of "LTP 3"), or ""


def unit(text: str) -> tuple[str, float]:
    """Quantity and size in SI of a unit as written.

    Raises:
        ValueError: none that is known.
    """
    if text in UNITS:
        return UNITS[text]
    raise ValueError(
        f"unit {text!r} is not known; known are S, ohm, A, V, s with the prefixes f p n u µ m k M G"
    )


def meaning(header: str) -> Column:
    """What a header says.

    `G (uS)`, `I [uA]`, `conductance_nS`, `Current/µA`, `R in kOhm`, `LTP 3 (uS)`.
    """
    text, written = header.strip(), ""
    for pattern in (r"[\(\[{<]\s*([^\)\]}>]*?)\s*[\)\]}>]", r"\s*/\s*(\S+)$", r"\s+in\s+(\S+)$"):
        found = re.search(pattern, text)
        if found and found[1] in UNITS:
            written, text = found[1], (text[: found.start()] + text[found.end() :]).strip()
            break
    if not written:
        for sign in ("_", " ", "-"):
            head, _, tail = text.rpartition(sign)
            if head and tail in UNITS and _role(head)[0]:
                written, text = tail, head
                break
    kind, factor = UNITS.get(written, ("", 1.0))
    role, number = _role(text)
    if role == "time" and kind not in ("", "time"):
        role = ""
    return Column(role, kind, factor, written, text, number)


def _role(text: str) -> tuple[str, str]:
    """The role of a name, and its number where it has one."""
    bare = re.sub(r"[\W_]", "", text).lower()
    if bare in NAMES:
        return NAMES[bare], ""
    split = re.fullmatch(r"([a-z]+?)(\d+)([a-z]*)", bare)
    if split:
        word, number, rest = split.groups()
        if word in NAMES and not rest and NAMES[word] in ("up", "down"):
            return NAMES[word], number
        if word in SERIES and rest in NAMES and NAMES[rest] in ("up", "down"):
            return NAMES[rest], number
    words = re.findall(r"[a-z]+|\d+", text.lower())
    if SPREAD.intersection(words):
        return "unused", ""
    if {"up", "down"} <= {NAMES.get(w) for w in words}:
        return "polarity", ""
    sides = [NAMES[w] for w in words if NAMES.get(w) in ("up", "down")]
    beside = ["pulse" if w == "x" else NAMES.get(w, "") for w in words]
    beside = [role for role in beside if role in ("pulse", "time")]
    if len(sides) == 1 and beside:
        return f"{beside[0]} {sides[0]}", "".join(w for w in words if w.isdigit())
    if len(sides) == 1:
        return sides[0], "".join(w for w in words if w.isdigit())
    values = [NAMES[w] for w in words if NAMES.get(w) in ("conductance", "resistance", "current")]
    if len(values) == 1 and not any(w.isdigit() or w in SERIES for w in words):
        return values[0], ""
    return "", ""
