"""From measured pulses to a device: `devices.fit("my_pulses.csv")`.

`text`, `units`, `reading`, `layouts`, `files` read a file into `data`; `traces` are the arrays a
fit works on, `look` checks them. `families` states what can be found, `shooting` fits a curve to
whole traces, `compare` judges curves by unseen ramps, `likelihood`, `search` and `noise` take apart
what is left, `laws` and `result` make a device of it. `switching` is for cells of two levels,
`lookup` for no law at all.
"""

from devices.fitting.compare import Candidate as Candidate
from devices.fitting.data import PulseData as PulseData
from devices.fitting.data import Unidentified as Unidentified
from devices.fitting.families import Family as Family
from devices.fitting.fit import LAWS as LAWS
from devices.fitting.fit import fit as fit
from devices.fitting.lookup import lookup_device as lookup_device
from devices.fitting.parts import PartFit as PartFit
from devices.fitting.parts import fit_endurance as fit_endurance
from devices.fitting.parts import fit_retention as fit_retention
from devices.fitting.parts import fit_stuck as fit_stuck
from devices.fitting.read_write import fit_read as fit_read
from devices.fitting.read_write import fit_write as fit_write
from devices.fitting.result import Fit as Fit
from devices.fitting.result import Parameter as Parameter
from devices.fitting.sweeps import fit_iv as fit_iv
