"""What events cost: sets with ranges and sources, a user's own, and other machines."""

from crossbar.costs.cost import BOUNDARIES as BOUNDARIES
from crossbar.costs.cost import GATED as GATED
from crossbar.costs.cost import HALF_SELECT as HALF_SELECT
from crossbar.costs.cost import THIRD_SELECT as THIRD_SELECT
from crossbar.costs.cost import Bias as Bias
from crossbar.costs.cost import Cost as Cost
from crossbar.costs.cost import Costs as Costs
from crossbar.costs.digital import MEMORY as MEMORY
from crossbar.costs.digital import digital as digital
from crossbar.costs.digital import digital_45nm as digital_45nm
from crossbar.costs.machines import CPU as CPU
from crossbar.costs.machines import H100 as H100
from crossbar.costs.machines import Brain as Brain
from crossbar.costs.machines import Roofline as Roofline
from crossbar.costs.machines import brain as brain
from crossbar.costs.scaling import logic as logic
from crossbar.costs.sets import hermes_14nm as hermes_14nm
from crossbar.costs.sets import isaac_32nm as isaac_32nm
from crossbar.costs.sets import jia_65nm as jia_65nm
from crossbar.costs.sets import neurosim_32nm as neurosim_32nm
from crossbar.costs.sets import neurram_130nm as neurram_130nm
from crossbar.costs.sets import survey as survey
from crossbar.costs.sets import zigzag_28nm as zigzag_28nm
