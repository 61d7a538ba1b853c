"""Events of arrays and of the digital logic around them, counted as they happen."""

from crossbar.ledger.events import KINDS as KINDS
from crossbar.ledger.events import Counts as Counts
from crossbar.ledger.events import Key as Key
from crossbar.ledger.ledger import Ledger as Ledger
from crossbar.ledger.ledger import ledger as ledger
