"""Converters: the DAC, and one file an ADC."""

from crossbar.converters.adc import ADC as ADC
from crossbar.converters.converter import Converter as Converter
from crossbar.converters.dac import DAC as DAC
from crossbar.converters.dac import Digit as Digit
