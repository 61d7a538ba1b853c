"""From measured pulses to a device: `devices.fit("my_pulses.csv")`.

`data` reads the file, `families` declares what can be found, `filter` says how likely reads are
under a law, `mixed` finds parameters that differ from cell to cell, `engine` iterates the two,
`result` makes a device and its confidence intervals, `compare` judges families by unseen cells.
"""

from devices.fitting.compare import Candidate as Candidate
from devices.fitting.data import PulseData as PulseData
from devices.fitting.data import Unidentified as Unidentified
from devices.fitting.families import FAMILIES as FAMILIES
from devices.fitting.families import Family as Family
from devices.fitting.fit import Fit as Fit
from devices.fitting.fit import fit as fit
from devices.fitting.lookup import lookup_device as lookup_device
from devices.fitting.result import Parameter as Parameter
