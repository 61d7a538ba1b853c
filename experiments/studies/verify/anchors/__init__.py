"""Published studies, one file each; criteria stand in them before anything runs."""

from experiments.studies.verify.anchors.bias import Bias
from experiments.studies.verify.anchors.curve import Labels
from experiments.studies.verify.anchors.mapping import Mapping
from experiments.studies.verify.anchors.noise import Noise
from experiments.studies.verify.anchors.nonlinearity import Curves
from experiments.studies.verify.anchors.pcm import Constants
from experiments.studies.verify.anchors.programming import Task
from experiments.studies.verify.anchors.rules import States
from experiments.studies.verify.anchors.stress import Stress
from experiments.studies.verify.anchors.stuck import Stuck
from experiments.studies.verify.anchors.tables import Tables as Tables
from experiments.studies.verify.anchors.wires import Lines
from experiments.studies.verify.claims import Anchor

# A12, `Tables`, needs data that nobody may ship
ANCHORS: tuple[type[Anchor], ...] = (
    *(Bias, Task, Constants, Lines, Labels, Curves),
    *(States, Stress, Stuck, Noise, Mapping),
)
