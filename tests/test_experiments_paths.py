"""Fields by dotted path, and values as text: what is meant is done, all else is explained."""

import pytest

import crossbar as xb
from devices import Device, GaussianRead, SoftBounds, presets
from experiments.lab import paths

CHIP = xb.Chip(
    device=Device(g_min=1e-6, g_max=50e-6, update=SoftBounds(dg_min=5e-8)),
    forward=xb.Periphery(dac=xb.DAC(bits=8), adc=xb.ADC(bits=8)),
)


def test_replace_changes_one_field_and_nothing_else() -> None:
    changed = paths.replace(CHIP, "device.update.sigma_c2c", 0.3)
    assert changed.device.update == SoftBounds(dg_min=5e-8, sigma_c2c=0.3)
    assert paths.replace(changed, "device.update.sigma_c2c", 0.0) == CHIP
    assert paths.get(changed, "device.update.sigma_c2c") == 0.3
    assert paths.replace(CHIP, "mapping.route", xb.Reference()).mapping.route == xb.Reference()
    assert paths.replace(CHIP, "device.read", GaussianRead(0.1)).device.read == GaussianRead(0.1)


def test_a_misspelt_field_is_named_with_what_exists() -> None:
    with pytest.raises(ValueError) as error:
        paths.replace(CHIP, "device.update.sigma_c3c", 0.3)
    text = str(error.value)
    assert text.startswith("device.update.sigma_c3c: device.update, a SoftBounds, has no field")
    assert "did you mean 'sigma_c2c'?" in text and "dg_min" in text
    with pytest.raises(ValueError, match="Chip has no field 'devise' .*did you mean 'device'"):
        paths.replace(CHIP, "devise.g_min", 0.0)
    with pytest.raises(ValueError, match="has no field ''"):
        paths.replace(CHIP, "", 0.0)


def test_a_path_through_an_absent_part_names_it() -> None:
    with pytest.raises(ValueError, match=r"device\.read is absent \(None\).*no field 'sigma'"):
        paths.replace(CHIP, "device.read.sigma", 0.1)
    with pytest.raises(ValueError, match=r"backward is absent \(None\)"):
        paths.replace(CHIP, "backward.adc.bits", 4)


def test_a_path_below_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="a value without fields"):
        paths.replace(CHIP, "device.g_min.exponent", 1)


def test_a_bad_value_is_refused_by_the_settings_themselves() -> None:
    with pytest.raises(ValueError, match="bits"):
        paths.replace(CHIP, "forward.adc.bits", 0)
    with pytest.raises(TypeError, match="route"):
        paths.replace(CHIP, "mapping.route", 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.3", 0.3),
        ("-1e-6", -1e-6),
        ("None", None),
        ("(64, 64)", (64, 64)),
        ("[1, -2]", [1, -2]),
        ("{'a': 1}", {"a": 1}),
        ("PushPull()", xb.PushPull()),
        ("xb.ADC(bits=4)", xb.ADC(bits=4)),
        ("devices.GaussianRead(0.01)", GaussianRead(0.01)),
        ("presets.pcm()", presets.pcm()),
        ("InSitu(Aggregated(bl=7))", xb.InSitu(xb.Aggregated(bl=7))),
    ],
)
def test_parse_reads_literals_and_constructors(text: str, value: object) -> None:
    assert paths.parse(text) == value


def test_settings_parse_back_from_their_repr() -> None:
    assert paths.parse(repr(CHIP)) == CHIP


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SoftBound(dg_min=1e-8)", "unknown name 'SoftBound'.*did you mean 'SoftBounds'"),
        ("presets.pmc()", "unknown preset 'pmc'.*did you mean 'pcm'"),
        ("Reference", r"write Reference\(\)"),
        ("__import__('os').system('true')", "not a public constructor"),
        ("open('x')", "unknown name 'open'"),
        ("crossbar.convert(1)", "unknown name 'convert'"),
        ("1 + 1", "neither a literal nor a call"),
        ("[x for x in (1, 2)]", "neither a literal nor a call"),
        ("ADC(**{'bits': 4})", "write the arguments out"),
        ("-None", "neither a literal nor a call"),
        ("(", "no Python value"),
    ],
)
def test_anything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paths.parse(text)
