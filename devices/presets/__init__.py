"""Ready-made devices with their published constants, by family.

Each function returns a `Device` and says where its numbers come from, what curve it is supposed to
give, and what could not be confirmed. Fields are varied with `dataclasses.replace`.
"""

from devices.presets.basic import ideal as ideal
from devices.presets.hermes import hermes_1 as hermes_1
from devices.presets.hermes import hermes_2 as hermes_2
from devices.presets.inference import cmo_hfox as cmo_hfox
from devices.presets.inference import pcm as pcm
from devices.presets.inference import rram_milo as rram_milo
from devices.presets.inference import rram_wan as rram_wan
from devices.presets.inference import sonos as sonos
from devices.presets.neurosim import ag_si as ag_si
from devices.presets.neurosim import alox_hfo2 as alox_hfo2
from devices.presets.neurosim import epiram as epiram
from devices.presets.neurosim import fefet as fefet
from devices.presets.neurosim import gst_pcm as gst_pcm
from devices.presets.neurosim import pcmo as pcmo
from devices.presets.neurosim import taox_hfox as taox_hfox
from devices.presets.neurosim import taox_tio2 as taox_tio2
from devices.presets.spiking import cbram_binary as cbram_binary
from devices.presets.spiking import querlioz as querlioz
from devices.presets.spiking import vteam as vteam
from devices.presets.spiking import wox_volatile as wox_volatile
from devices.presets.training import capacitor as capacitor
from devices.presets.training import ecram_li as ecram_li
from devices.presets.training import ecram_mo as ecram_mo
from devices.presets.training import gokmen_vlasov as gokmen_vlasov
from devices.presets.training import idealised_rpu as idealised_rpu
from devices.presets.training import pcm_onesided as pcm_onesided
from devices.presets.training import reram_array_hfo2 as reram_array_hfo2
from devices.presets.training import reram_array_om as reram_array_om
from devices.presets.training import reram_es as reram_es
from devices.presets.training import reram_sb as reram_sb
