"""From δ·xᵀ to pulses: the schemes of the outer-product update, one file each."""

from crossbar.pulses.aggregated import Aggregated as Aggregated
from crossbar.pulses.deterministic import Deterministic as Deterministic
from crossbar.pulses.exact import ExactBits as ExactBits
from crossbar.pulses.expected import Expected as Expected
from crossbar.pulses.scheme import Cut as Cut
from crossbar.pulses.scheme import Parcel as Parcel
from crossbar.pulses.scheme import Scheme as Scheme
from crossbar.pulses.sequential import Sequential as Sequential
