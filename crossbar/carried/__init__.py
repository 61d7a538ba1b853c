"""Weights carried by their Parameters: whatever code multiplies by one reads its array.

`analog` is the tensor that a forward sees; `owner` the property that a module has for each weight
name; the others are torch's functions that read, one family a file.
"""

from crossbar.carried import attention as attention
from crossbar.carried import convolutions as convolutions
from crossbar.carried import experts as experts
from crossbar.carried import products as products
from crossbar.carried import recurrent as recurrent
from crossbar.carried import sums as sums
from crossbar.carried import views as views
from crossbar.carried.analog import Analog as Analog
from crossbar.carried.analog import carry as carry
from crossbar.carried.owner import owner as owner
