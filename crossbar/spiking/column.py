"""Integrate-and-fire at the column: the bitline's current charges a capacitor, no converter."""

from __future__ import annotations

import math

import torch
from torch import nn

from crossbar.model import only
from crossbar.spiking.membranes import Membrane, SpikingJelly
from crossbar.spiking.neurons import LIF
from crossbar.spiking.resets import Reset, Subtract, To
from crossbar.spiking.surrogates import ATan, Surrogate
from crossbar.streams import derive
from devices._check import at_least, instance, positive
from devices.draw import seeded


def column_neuron(
    layer: nn.Module,
    *,
    capacitance: float,
    v_threshold: float,
    dt: float,
    leak: float | None = None,
    sigma_offset: float = 0.0,
    reset: Reset = Subtract(),  # noqa: B008 - frozen
    surrogate: Surrogate = ATan(),  # noqa: B008 - frozen
    seed: int = 0,
) -> LIF:
    """The neuron that integrates a layer's column currents, as it stands behind `layer`.

        C dV/dt = I − V/R_leak,   a spike at V >= V_th,   I = V_read ΔG/w_max · y

    where y = W x are the layer's outputs in units of its weights, spikes x of height V_read (the
    DAC's v_max). One step of the discharge is SpikingJelly's Euler step; in units of y the
    threshold is θ_j = (V_th + offset_j) C w_max/(V_read ΔG dt). A bias of the layer is a current as
    well. The virtual ground of the integrator holds the column: line voltages do not sag with V.

    Args:
        layer: with one analog weight and no ADC in its forward periphery.
        capacitance: C [F], > 0.
        v_threshold: V_th [V], > 0.
        dt: duration of a read, a time step [s], > 0.
        leak: R_leak [Ω], with R C >= dt; None: none.
        sigma_offset: spread of the comparators' offsets [V], >= 0, drawn once.
        reset: `Subtract()`: a packet of charge C V_th is taken off; `To()`: C is discharged.
        surrogate: derivative of a spike.
        seed: of the offsets.

    Raises:
        TypeError: a layer behind an ADC. ValueError: a value out of range; w_max per column with
            weights not written yet.

    Source: Mead, Proc. IEEE 78, 1629 (1990); charge-packet reset as in Wang et al., IEEE Trans.
    Neural Netw. Learn. Syst. 33, 1640 (2022).
    """
    instance("reset", reset, (Subtract, To), optional=False)  # type: ignore[arg-type]
    for name, value, si in (
        ("capacitance", capacitance, "F"),
        ("v_threshold", v_threshold, "V"),
        ("dt", dt, "s"),
    ):
        positive(name, value, si)
    at_least("sigma_offset", sigma_offset, 0, "V")
    weight = only(layer).weight
    matrix = weight.matrix
    if matrix.chip.forward.adc is not None:
        raise TypeError(
            "column_neuron takes currents, and the layer's forward periphery converts them: use "
            "Periphery(dac, adc=None)"
        )
    w_max = matrix.written.w_max
    current = matrix.chip.forward.v_max * matrix.chip.device.window.span  # at y = w_max
    unit = capacitance * w_max.double().reshape(-1) / (current * dt)
    cols = matrix.lines[-1]
    offsets = torch.zeros(cols, dtype=torch.float64)
    if sigma_offset:
        generator = seeded(f"{derive(seed, 'comparators')}", torch.device("cpu"))
        offsets = sigma_offset * torch.randn(cols, generator=generator, dtype=torch.float64)
    theta = (v_threshold + offsets.to(unit.device)) * unit
    tau = math.inf
    if leak is not None:
        tau = positive("leak", leak, "ohm") * capacitance / dt
        at_least("leak * capacitance / dt", tau, 1)
    membrane: Membrane = SpikingJelly(tau, decay_input=False)
    threshold = theta.to(matrix.written.w_max.dtype)
    return LIF(membrane, threshold, reset=reset, surrogate=surrogate)
