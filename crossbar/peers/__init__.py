"""Other simulators' settings as ours."""

from crossbar.peers.aihwkit import Counterpart as Counterpart
from crossbar.peers.aihwkit import from_aihwkit as from_aihwkit
