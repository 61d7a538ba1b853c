"""The devices of NeuroSim's table, with the access resistance that they have there."""

from __future__ import annotations

from dataclasses import dataclass

from devices import Device, NeuroSim, presets

ACCESS = 15e3  # [ohm] NeuroSim's default access transistor


@dataclass(frozen=True)
class Material:
    """A row of NeuroSim's table of devices, and its access resistance there [ohm]."""

    name: str
    cell: Device
    access: float = ACCESS

    @property
    def law(self) -> NeuroSim:
        """The cell's update law."""
        assert isinstance(self.cell.update, NeuroSim)
        return self.cell.update


def cell(law: NeuroSim) -> Device:
    """The device of the sweeps: 200 kohm when fully on, on/off ratio 50."""
    return Device(g_min=0.1e-6, g_max=5e-6, update=law)


MATERIALS = (
    Material("ideal, 64 levels", cell(NeuroSim(64, 64))),
    Material("EpiRAM", presets.epiram()),
    Material("GST-PCM", presets.gst_pcm()),
    Material("HZO FeFET", presets.fefet(), access=0.0),
    Material("TaOx/TiO2", presets.taox_tio2()),
    Material("Ag:a-Si", presets.ag_si()),
    Material("TaOx/HfOx", presets.taox_hfox()),
    Material("AlOx/HfO2", presets.alox_hfo2()),
    Material("PCMO", presets.pcmo()),
)
