"""Mappings: how logical weights sit on cells; one file each."""

from crossbar.mappings.arbitrated import Arbitrated as Arbitrated
from crossbar.mappings.base import Mapping as Mapping
from crossbar.mappings.curve import Curve as Curve
from crossbar.mappings.devices import Devices as Devices
from crossbar.mappings.differential import Differential as Differential
from crossbar.mappings.differential import OneSided as OneSided
from crossbar.mappings.differential import PushPull as PushPull
from crossbar.mappings.differential import Reference as Reference
from crossbar.mappings.differential import Route as Route
from crossbar.mappings.significance import Significance as Significance
from crossbar.mappings.single import OffsetColumn as OffsetColumn
from crossbar.mappings.single import SingleCell as SingleCell
from crossbar.mappings.slices import Slices as Slices
from crossbar.mappings.unipolar import Unipolar as Unipolar
