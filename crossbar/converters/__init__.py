"""Converters: the DAC, and one file an ADC."""

from crossbar.converters.adc import ADC as ADC
from crossbar.converters.converter import Converter as Converter
from crossbar.converters.dac import DAC as DAC
from crossbar.converters.dac import Digit as Digit
from crossbar.converters.flash import Flash as Flash
from crossbar.converters.pipeline import Cyclic as Cyclic
from crossbar.converters.pipeline import Pipeline as Pipeline
from crossbar.converters.pulse_width import PulseWidth as PulseWidth
from crossbar.converters.ramp import Ramp as Ramp
from crossbar.converters.sar import SAR as SAR
from crossbar.converters.serial import SerialDAC as SerialDAC
from crossbar.converters.tabulated import LevelNoise as LevelNoise
from crossbar.converters.tabulated import MeasuredADC as MeasuredADC
