"""Converters as the survey of published ones has them."""

from __future__ import annotations

import math

from crossbar.costs.cost import Cost
from devices._check import between, positive

SOURCE = (
    "regression of B. Murmann's ADC survey (2025-06) in CiMLoop's Accelergy ADC plug-in ff0fb48, "
    "a best case; range: 20th and 80th percentile of the survey over it"
)


def energy(node: float, bits: float, rate: float) -> Cost:
    """Joules a conversion.

        FoM = min(213.78 − 2.8719 ln f, 128.307 + 3.22053 ⌈b⌉) [dB],   SNDR = 6.0206 b + 1.761
        E = 10^((SNDR − FoM)/10)/2 · exp(26.0496 + 1.88004 ln t − 2.82913 ln b − 1.47020) [pJ]

    Args:
        node: t [nm].
        bits: b, effective, at least 4.
        rate: f, conversions a second, at most 10¹⁰.

    Raises:
        ValueError: out of the regression's range.
    """
    positive("node", node, "nm")
    between("bits", bits, 4, 16)
    between("rate", rate, 1.0, 1e10)
    fom = min(213.78 - 2.8719 * math.log(rate), 128.307 + 3.22053 * math.ceil(bits))
    sndr = 6.0206 * bits + 1.761
    power = 10 ** ((sndr - fom) / 10) / 2
    logs = 26.0496 + 1.88004 * math.log(node) - 2.82913 * math.log(bits) - 1.47020
    value = power * math.exp(logs) * 1e-12
    return Cost(value, 0.61 * value, 10 * value, node, SOURCE)


def area(node: float, bits: float, rate: float) -> Cost:
    """Square metres of a converter, exp(1.34619 + 0.99328 ln t + 0.18072 ln f + 0.29912 ln E) µm².

    E in pJ; arguments as those of `energy`.
    """
    pj = energy(node, bits, rate).value * 1e12
    logs = 1.34619 + 0.99328 * math.log(node) + 0.18072 * math.log(rate) + 0.29912 * math.log(pj)
    value = math.exp(logs) * 1e-12
    return Cost(value, 0.5 * value, 21 * value, node, SOURCE)
