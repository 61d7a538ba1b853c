"""The physics of one memory cell: conductance, pulses, noise, time. Knows nothing of arrays."""

from devices import presets as presets
from devices.device import Device as Device
from devices.exp_step import ExpStep as ExpStep
from devices.gaussian import GaussianRead as GaussianRead
from devices.gaussian import ProportionalRead as ProportionalRead
from devices.neurosim import NeuroSim as NeuroSim
from devices.part import IV as IV
from devices.part import Faults as Faults
from devices.part import Part as Part
from devices.part import Pulses as Pulses
from devices.part import Read as Read
from devices.part import Retention as Retention
from devices.part import State as State
from devices.part import Update as Update
from devices.part import Window as Window
from devices.part import Write as Write
from devices.pcm import PCMDrift as PCMDrift
from devices.pcm import PCMWrite as PCMWrite
from devices.piecewise import PiecewiseStep as PiecewiseStep
from devices.pow_step import PowStep as PowStep
from devices.power_law import PowerLawDrift as PowerLawDrift
from devices.querlioz import QuerliozStep as QuerliozStep
from devices.stepped import ConstantStep as ConstantStep
from devices.stepped import LinearStep as LinearStep
from devices.stepped import SoftBounds as SoftBounds
from devices.stuck import StuckAt as StuckAt
