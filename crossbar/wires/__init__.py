"""Wires: arrays with line resistance, solved.

`prepare(g, wires)` gives a network; what it answers is in `network`, what solutions share in
`solved`, how it is solved in `tree` (direct), `krylov` (iterative) and `nonlinear`.
"""

from crossbar.wires.cells import CellTiles as CellTiles
from crossbar.wires.cells import GatedTiles as GatedTiles
from crossbar.wires.choice import choose as choose
from crossbar.wires.disturb import Disturb as Disturb
from crossbar.wires.disturb import Efficacy as Efficacy
from crossbar.wires.disturb import Fired as Fired
from crossbar.wires.disturb import ParallelWrite as ParallelWrite
from crossbar.wires.disturb import disturb as disturb
from crossbar.wires.disturb import write_shares as write_shares
from crossbar.wires.network import Fields as Fields
from crossbar.wires.network import Gradients as Gradients
from crossbar.wires.network import Network as Network
from crossbar.wires.network import Readable as Readable
from crossbar.wires.network import Solvable as Solvable
from crossbar.wires.prepare import prepare as prepare
from crossbar.wires.settings import Approximate as Approximate
from crossbar.wires.settings import Exact as Exact
from crossbar.wires.settings import Floating as Floating
from crossbar.wires.settings import Iterative as Iterative
from crossbar.wires.settings import Newton as Newton
from crossbar.wires.settings import NotConverged as NotConverged
from crossbar.wires.settings import Solver as Solver
from crossbar.wires.settings import SourceLine as SourceLine
from crossbar.wires.settings import Wires as Wires
from crossbar.wires.tiles import effective as effective
from crossbar.wires.tiles import effective_back as effective_back
from crossbar.wires.tiles import tiled_write_shares as tiled_write_shares
