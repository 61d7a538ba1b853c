"""JART VCM v1b: valence change memory, a Schottky contact whose barrier oxygen vacancies lower."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from devices._check import at_least, positive
from devices.draw import Draw
from devices.part import Window
from devices.update.driven import Driven
from devices.update.roots import root

Q, BOLTZMANN, PLANCK = 1.602176634e-19, 1.380649e-23, 6.62607015e-34  # [C], [J/K], [J s]
EPS_0, M_E = 8.8541878128e-12, 9.1093837015e-31  # [F/m], [kg]
Z, RICHARDSON = 2, 6.01e5  # charge number of a vacancy; [A/(m² K²)]

UNITS = {
    "n_min": "1/m^3",
    "n_max": "1/m^3",
    "n_plug": "1/m^3",
    "radius": "m",
    "disc": "m",
    "cell": "m",
    "mobility": "m^2/(V s)",
    "hop": "m",
    "attempt": "Hz",
    "e_a": "eV",
    "eps": "",
    "eps_image": "",
    "barrier": "V",
    "r_th": "K/W",
    "reset_share": "",
    "t_0": "K",
    "v_read": "V",
}
FREE = {"fermi": "V", "r_series": "ohm", "r_line": "ohm", "r_th_line": "K/W", "alpha_line": "1/K"}


KNOTS = 4096
"""Intervals of the table of speeds of cells that are alike: within 1e-7 of them but at a kink."""

SCAN = 16
"""Intervals of the contact's voltage in which the coldest balance of a SET is looked for."""


class Filament(NamedTuple):
    """What differs from cell to cell, (..., rows, cols) or ()."""

    rate: Tensor  # relative
    radius: Tensor  # [m]
    disc: Tensor  # length of the disc [m]
    n_min: Tensor  # vacancies of the disc [1/m³]
    n_max: Tensor


class Point(NamedTuple):
    """Operating point: V and I are negative where the cell is set, as in the source."""

    current: Tensor  # [A]
    contact: Tensor  # voltage V_s over the Schottky contact [V]
    disc: Tensor  # resistances [Ω]
    plug: Tensor
    temperature: Tensor  # [K]


@dataclass(frozen=True)
class JART(Driven):
    """Vacancies of density N in a disc of length l before the contact; a plug and lines in series.

        dN/dt = −I_ion/(z q A l),   A = π r²,   x = ln(N/N_min)/ln(N_max/N_min)
        I_ion = z q A ((N_plug + N)/2) a ν₀ (e^{−W₋/kT} − e^{−W₊/kT}) F
        W∓ = W_a (√(1 − γ²) ∓ γ π/2 + γ asin γ),   γ = z a E/(π W_a)
        SET:   E = I R_disc/l,  F = 1 − (N/N_max)^10;   RESET: E = (V_s + I (R_disc + R_plug))/L,
                                                               F = 1 − (N_min/N)^10
        V = V_s + I (R_disc + R_plug + R_TiOx + R_0 (1 + α R_0 R_th,line I²))
        R_disc = l/(z q N µ A),  R_plug = (L − l)/(z q N_plug µ A)
        T = T_0 + I (V_s + I (R_disc + R_plug)) R_th (r_0/r)², and times `reset_share` for a RESET
        I = A A* T² e^{−qφ/kT} (e^{qV_s/kT} − 1)                                      V_s ≥ 0
        I = −A A* T/k √(π W₀₀ q (|V_s| + φ/cosh² u)) e^{−qφ/W₀} (e^{q|V_s|/ξ} − 1)    V_s < 0
        u = W₀₀/kT,  W₀₀ = (q h/4π) √(z N/(m ε)),  W₀ = W₀₀ coth u,  ξ = W₀₀/(u − tanh u)
        φ = φ_0 − ⁴√(q³ z N (φ_0 − φ_n − V_s)/(8 π² ε_φ³)), at least 0; φ_0 beyond V_s = φ_0 − φ_n

    The source's polarity is turned: positive voltage sets, that is potentiates. The conductance of
    a cell is I/V at +v_read, and reads are taken as ohmic. In a RESET the contact's current falls
    just below V_s = φ_0 − φ_n, where the barrier is no longer lowered, so that several points can
    balance the circuit: the one of the largest current is taken. In a SET, where heat can make
    several, it is the coldest. γ beyond ±1, where no barrier is left, counts as ±1. `drive` and
    `pulse` are as in `devices.update.driven`.

    With the defaults a window may reach from 9.6 to 628 µS, what N_min … N_max give.

    Args:
        v_set: voltage of an up pulse [V], > 0.
        v_reset: voltage of a down pulse [V], < 0.
        width: duration of a pulse [s], > 0.
        sigma_c2c: noise of the time of each pulse, or call of `drive`, relative.
        sigma_d2d: spread of the attempt frequency from cell to cell, relative (clipped at 0).
        sigma_radius: spread of r from cell to cell, relative; as the next, within ±3 σ and > 0.
        sigma_disc: the same of l.
        sigma_n_min: the same of N_min.
        sigma_n_max: the same of N_max.
        n_min: least vacancies of the disc N_min [1/m³], > 0.
        n_max: most vacancies N_max [1/m³], > n_min.
        n_plug: vacancies of the plug N_plug [1/m³], > 0.
        radius: of the filament, r = r_0 [m], > 0.
        disc: its length l [m], > 0, below `cell`.
        cell: length L of disc and plug [m], > 0.
        mobility: µ of electrons [m²/(V s)], > 0.
        hop: distance a of an ion's hop [m], > 0.
        attempt: frequency ν₀ [Hz], > 0.
        e_a: activation energy W_a [eV], > 0.
        eps: permittivity of the oxide, ε/ε_0, > 0.
        eps_image: that of the image force, ε_φ/ε_0, > 0.
        barrier: nominal Schottky barrier φ_0 [V], > fermi.
        fermi: from the Fermi level to the conduction band φ_n [V], >= 0.
        r_th: thermal resistance R_th [K/W], > 0.
        reset_share: part of it in a RESET, in (0, 1].
        r_series: R_TiOx [Ω], >= 0.
        r_line: R_0 of the lines without current [Ω], >= 0.
        r_th_line: their thermal resistance [K/W], >= 0.
        alpha_line: their temperature coefficient α [1/K], >= 0.
        t_0: ambient temperature T_0 [K], > 0.
        v_read: voltage that defines the conductance [V], > 0.

    Raises:
        TypeError, ValueError: a field out of range; at fabrication a window beyond what N reaches.

    Source: Bengel et al., IEEE Trans. Circuits Syst. I 67, 4618 (2020),
    doi:10.1109/TCSI.2020.3018502; Cüppers et al., APL Mater. 7, 091105 (2019),
    doi:10.1063/1.5108654. The equations and defaults are those of the Verilog-A file of v1b, read
    in a re-implementation of it; pulses are this package's.
    """

    v_set: float = 0.342
    v_reset: float = -0.7065
    width: float = 1e-6
    sigma_radius: float = 0.0
    sigma_disc: float = 0.0
    sigma_n_min: float = 0.0
    sigma_n_max: float = 0.0
    n_min: float = 0.008e26
    n_max: float = 20e26
    n_plug: float = 20e26
    radius: float = 45e-9
    disc: float = 0.4e-9
    cell: float = 3e-9
    mobility: float = 4e-6
    hop: float = 0.25e-9
    attempt: float = 2e13
    e_a: float = 1.35
    eps: float = 17.0
    eps_image: float = 5.5
    barrier: float = 0.18
    fermi: float = 0.1
    r_th: float = 15.72e6
    reset_share: float = 0.27
    r_series: float = 650.0
    r_line: float = 719.244
    r_th_line: float = 90471.47
    alpha_line: float = 3.92e-3
    t_0: float = 293.0
    v_read: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, unit in UNITS.items():
            positive(name, getattr(self, name), unit)
        for name, unit in FREE.items():
            at_least(name, getattr(self, name), 0, unit)
        for name in ("radius", "disc", "n_min", "n_max"):
            at_least(f"sigma_{name}", getattr(self, f"sigma_{name}"), 0)
        for low, high in (("n_min", "n_max"), ("disc", "cell"), ("fermi", "barrier")):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(
                    f"{low} must be below {high} = {getattr(self, high)!r}, "
                    f"got {getattr(self, low)!r}"
                )
        if self.reset_share > 1:
            raise ValueError(f"reset_share must be in (0, 1], got {self.reset_share!r}")
        if self.r_series + self.r_line <= 0:
            raise ValueError("r_series + r_line must be > 0 ohm: nothing else limits a SET")

    # ---- the cells -----------------------------------------------------------------------------

    def fabricate(self, window: Window, shape: tuple[int, ...], draw: Draw) -> Filament:
        """Draw pace, radius, length and bounds of every cell."""
        ends = self._conductance(
            window, torch.tensor([0.0, 1.0], dtype=torch.float64), self._nominal()
        )
        low, high = ends.tolist()
        if not (low <= window.g_min and window.g_max <= high):
            raise ValueError(
                f"JART reaches {low:.4g} to {high:.4g} S with n_min = {self.n_min!r} and n_max = "
                f"{self.n_max!r}; the window asks for {window.g_min!r} to {window.g_max!r} S"
            )

        def drawn(name: str) -> Tensor:
            sigma = float(getattr(self, f"sigma_{name}"))
            nominal: float = getattr(self, name)
            spread = draw.factor(shape, sigma).clamp(max(1 - 3 * sigma, 0.05), 1 + 3 * sigma)
            return spread * nominal

        rate = draw.factor(shape, self.sigma_d2d).clamp(min=0)
        return Filament(rate, *(drawn(name) for name in ("radius", "disc", "n_min", "n_max")))

    def bounds(self, window: Window, p: Filament) -> tuple[Tensor, Tensor]:
        """What the vacancies of every cell reach inside the window [S]."""
        if not any(t.dim() for t in p[1:]):
            return p.n_min.new_tensor(window.g_min), p.n_min.new_tensor(window.g_max)
        low, high = (
            self._conductance(window, torch.full_like(p.n_min, x, dtype=torch.float64), p)
            for x in (0.0, 1.0)
        )
        dtype = p.n_min.dtype
        low, high = low.clamp(window.g_min, window.g_max), high.clamp(window.g_min, window.g_max)
        return low.to(dtype), high.to(dtype)

    def _nominal(self) -> Filament:
        values = (1.0, self.radius, self.disc, self.n_min, self.n_max)
        return Filament(*(torch.tensor(v, dtype=torch.float64) for v in values))

    def _state(self, window: Window, g: Tensor, p: Filament) -> Tensor:
        """x at which the cell carries g v_read; at an end where none does."""
        p, voltage = _wide(p), g.new_tensor(-self.v_read)
        wanted = -g * self.v_read

        def less(x: Tensor) -> Tensor:  # rises with x
            n = self._density(x, p)
            contact, disc, plug = self._contact(voltage, wanted, n, p)
            hot = self._hot(voltage, wanted, contact, disc, plug, p)
            return wanted - self._schottky(contact, hot, n, p)

        return root(less, torch.zeros_like(wanted), torch.ones_like(wanted))

    def _conductance(self, window: Window, x: Tensor, p: Filament) -> Tensor:
        p = _wide(p)
        point = self._point(x.new_tensor(-self.v_read), self._density(x, p), p)
        return point.current / -self.v_read

    def _speed(self, window: Window, x: Tensor, v: Tensor, p: Filament) -> Tensor:
        p = _wide(p)
        n, voltage = self._density(x, p), -v
        at = self._point(voltage, n, p)
        setting = voltage < 0
        field = torch.where(
            setting,
            at.current * at.disc / p.disc,
            (at.contact + at.current * (at.disc + at.plug)) / self.cell,
        )
        near = torch.where(setting, 1 - (n / p.n_max) ** 10, 1 - (p.n_min / n) ** 10)
        gamma = (field * (Z * self.hop / (math.pi * self.e_a))).clamp(-1, 1)
        even = (1 - gamma**2).sqrt() + gamma * gamma.asin()
        scale = self.e_a * Q / BOLTZMANN / at.temperature
        # e^{−W₋} − e^{−W₊} = 2 e^{−even} sinh
        hops = 2 * torch.exp(-scale * even) * torch.sinh(scale * gamma * (math.pi / 2))
        moved = -(self.n_plug + n) / 2 * (self.hop * self.attempt) * hops * near / p.disc
        return moved / (n * torch.log(p.n_max / p.n_min))

    def _flow(self, window: Window, v: Tensor, p: Filament) -> Callable[[Tensor], Tensor]:
        one = v.flatten()[:1]
        if any(t.dim() for t in p[1:]) or not (len(one) and bool((v == one).all())):
            return super()._flow(window, v, p)
        return functools.partial(_joined, _tabled(self, window, float(one)).to(v.device))

    def _density(self, x: Tensor, p: Filament) -> Tensor:
        return p.n_min * torch.exp(x * torch.log(p.n_max / p.n_min))

    # ---- the circuit ---------------------------------------------------------------------------

    def _point(self, v: Tensor, n: Tensor, p: Filament) -> Point:
        """The current at which contact and resistances share the voltage v."""
        v = v.double().expand(torch.broadcast_shapes(v.shape, n.shape, p.radius.shape))

        def through(contact: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            disc, plug = self._ohmic(n, p)
            current = self._lines(v - contact, disc + plug)
            return current, disc, plug, self._hot(v, current, contact, disc, plug, p)

        def over(contact: Tensor) -> Tensor:  # rises with the contact's voltage
            current, _, _, hot = through(contact)
            return self._schottky(contact, hot, n, p) - current

        low, high = v.clamp(max=0), v.clamp(min=0)
        if bool((high > 0).any()):
            peak = self._peak(n).expand_as(v).minimum(high)
            beyond = (high > 0) & (over(peak) < 0)
            low, high = torch.where(beyond, peak, low), torch.where(beyond, high, peak)
        if bool((low < 0).any()):  # the first balance from the cold end, where no current flows
            parts = torch.linspace(0, 1, SCAN + 1, dtype=v.dtype, device=v.device)
            tried = v + parts.view(-1, *[1] * v.dim()) * -v
            first = (over(tried) >= 0).to(torch.int8).argmax(0, keepdim=True)
            upper = tried.expand(SCAN + 1, *v.shape).gather(0, first)[0]
            lower = tried.gather(0, (first - 1).clamp(min=0))[0]
            low, high = torch.where(v < 0, lower, low), torch.where(v < 0, upper, high)
        contact = root(over, low, high)
        current, disc, plug, hot = through(contact)
        return Point(current, contact, disc.expand_as(v), plug.expand_as(v), hot)

    @property
    def _image(self) -> float:
        """(φ_0 − φ)⁴ by N and volt [V³ m³]."""
        return Q**3 * Z / (8 * math.pi**2 * (self.eps_image * EPS_0) ** 3)

    def _peak(self, n: Tensor) -> Tensor:
        """V_s >= 0 up to which the current rises: V_s − φ is largest there, or φ begins [V]."""
        slope = self._image * n
        psi = torch.minimum((slope / 256) ** (1 / 3), self.barrier**4 / slope)
        return (self.barrier - self.fermi - psi).clamp(min=0)

    def _ohmic(self, n: Tensor, p: Filament) -> tuple[Tensor, Tensor]:
        """R_disc and R_plug [Ω]."""
        sheet = Z * Q * self.mobility * math.pi * p.radius**2
        return p.disc / (n * sheet), (self.cell - p.disc) / (self.n_plug * sheet)

    def _lines(self, v: Tensor, ohmic: Tensor) -> Tensor:
        """I of v = I R + c I³, the lines of rising resistance included."""
        linear = ohmic + self.r_series + self.r_line
        cubic = self.alpha_line * self.r_line**2 * self.r_th_line
        if not cubic:
            return v / linear
        scale = (linear / (3 * cubic)).sqrt()
        return 2 * scale * torch.sinh(torch.asinh(1.5 * v / (linear * scale)) / 3)

    def _contact(
        self, v: Tensor, current: Tensor, n: Tensor, p: Filament
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What a current leaves of v for the contact, and R_disc and R_plug."""
        disc, plug = self._ohmic(n, p)
        heated = 1 + self.alpha_line * self.r_line * self.r_th_line * current**2
        lines = self.r_series + self.r_line * heated
        return v - current * (disc + plug + lines), disc, plug

    def _hot(
        self, v: Tensor, current: Tensor, contact: Tensor, disc: Tensor, plug: Tensor, p: Filament
    ) -> Tensor:
        """Temperature [K]."""
        r_th = self.r_th * (self.radius / p.radius) ** 2
        r_th = torch.where(v > 0, r_th * self.reset_share, r_th)
        return self.t_0 + (current * (contact + current * (disc + plug)) * r_th).clamp(min=0)

    def _schottky(self, contact: Tensor, hot: Tensor, n: Tensor, p: Filament) -> Tensor:
        """Current of the contact [A]."""
        area, thermal = math.pi * p.radius**2, BOLTZMANN * hot
        psi = self.barrier - self.fermi - contact
        lowered = (self.barrier - (self._image * n * psi.clamp(min=0)) ** 0.25).clamp(min=0)
        phi = torch.where(psi > 0, lowered, self.barrier)
        forward = contact.clamp(min=0)
        emitted = torch.exp(-Q * phi / thermal) * torch.expm1(Q * forward / thermal)
        there = area * RICHARDSON * hot**2 * emitted
        if not bool((contact < 0).any()):
            return there
        w_00 = Q * PLANCK / (4 * math.pi) * (Z * n / (M_E * self.eps * EPS_0)).sqrt()
        u, back = w_00 / thermal, (-contact).clamp(min=0)
        shape = (math.pi * w_00 * Q * (back + phi / torch.cosh(u) ** 2)).sqrt()
        tunnelled = torch.exp(-Q * phi * torch.tanh(u) / w_00)
        gained = torch.expm1(Q * back * (u - torch.tanh(u)) / w_00)
        here = area * RICHARDSON * hot / BOLTZMANN * shape * tunnelled * gained
        return torch.where(contact < 0, -here, there)


def _joined(values: Tensor, x: Tensor) -> Tensor:
    """A function of x in 0 … 1 from values at equal distances: cubics through four points each."""
    n = len(values) - 1
    k = (x * n).floor().clamp(1, n - 2)
    t, first = x * n - k, k.long() - 1
    a, b, c, d = (values[first + j] for j in range(4))
    outer = (d * (t + 1) - a * (t - 2)) * (t * (t - 1) / 6)
    inner = (b * (t - 1) * (t - 2) * (t + 1) - c * t * (t + 1) * (t - 2)) / 2
    return outer + inner


@functools.lru_cache(maxsize=16)
def _tabled(law: JART, window: Window, v: float) -> Tensor:
    """dx/dt of cells that are alike: training asks for it many times at the same two voltages."""
    x = torch.linspace(0, 1, KNOTS + 1, dtype=torch.float64)
    return law._speed(window, x, torch.tensor(v, dtype=torch.float64), law._nominal())


def _wide(p: Filament) -> Filament:
    return Filament(*(t.double() for t in p))
