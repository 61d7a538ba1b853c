"""Events of arrays and of the digital logic around them, counted as they happen."""

from crossbar.ledger.bill import Bill as Bill
from crossbar.ledger.bill import compare as compare
from crossbar.ledger.bill import price as price
from crossbar.ledger.events import KINDS as KINDS
from crossbar.ledger.events import Counts as Counts
from crossbar.ledger.events import Key as Key
from crossbar.ledger.exports import to_accelforge as to_accelforge
from crossbar.ledger.exports import to_neurosim as to_neurosim
from crossbar.ledger.ledger import Ledger as Ledger
from crossbar.ledger.ledger import ledger as ledger
from crossbar.ledger.performance import Area as Area
from crossbar.ledger.performance import Latency as Latency
from crossbar.ledger.performance import Performance as Performance
from crossbar.ledger.performance import Schedule as Schedule
from crossbar.ledger.performance import area as area
from crossbar.ledger.performance import latency as latency
from crossbar.ledger.performance import performance as performance
