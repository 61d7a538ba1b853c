"""Rules of in-situ learning: what a step's inputs and errors do to the matrices of a weight."""

from crossbar.rules.agad import AGAD as AGAD
from crossbar.rules.carry import PeriodicCarry as PeriodicCarry
from crossbar.rules.low_rank import LowRank as LowRank
from crossbar.rules.manhattan import Manhattan as Manhattan
from crossbar.rules.mixed import MixedPrecision as MixedPrecision
from crossbar.rules.momentum import ArrayMomentum as ArrayMomentum
from crossbar.rules.momentum import Momentum as Momentum
from crossbar.rules.momentum import WeightDecay as WeightDecay
from crossbar.rules.pulsed import Pulsed as Pulsed
from crossbar.rules.residual import Residual as Residual
from crossbar.rules.rule import Cost as Cost
from crossbar.rules.rule import Job as Job
from crossbar.rules.rule import Load as Load
from crossbar.rules.rule import Rule as Rule
from crossbar.rules.rule import Slot as Slot
from crossbar.rules.rule import Work as Work
from crossbar.rules.tiki_taka import ChoppedTikiTaka as ChoppedTikiTaka
from crossbar.rules.tiki_taka import TikiTaka as TikiTaka
from crossbar.rules.tiki_taka_v1 import TikiTakaV1 as TikiTakaV1
from crossbar.rules.tracking import TrackedTikiTaka as TrackedTikiTaka
