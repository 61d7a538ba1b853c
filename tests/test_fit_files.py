"""Files of measured pulses in the forms that people have: the same reads, or a named refusal."""

from __future__ import annotations

import itertools
import zipfile

import numpy as np
import pytest
import torch

import devices
from devices import PulseData

RNG = np.random.default_rng(4)
UP = np.cumsum(np.r_[5e-6, RNG.uniform(0.2e-6, 0.5e-6, 12)])
DOWN = UP[-1] - np.cumsum(RNG.uniform(0.2e-6, 0.5e-6, 12))
G = np.r_[UP, DOWN]  # one cycle: 12 pulses up, 12 down
WAY = [0] + [1] * 12 + [-1] * 12


def long(value, head, words=("up", "down", ""), cycles=2, sep=",", point="."):
    """A table with a row per read; every cycle 1 % higher than the one before."""
    lines = [sep.join(["cycle", "pulse", "polarity", *head])]
    for c in range(cycles):
        for k, (g, w) in enumerate(zip(G * (1 + 0.01 * c), WAY, strict=True)):
            word = words[{1: 0, -1: 1, 0: 2}[w]]
            number = value(g).replace(".", point)
            lines.append(sep.join([str(c), str(k), word, number]))
    return "\n".join(lines) + "\n"


def wanted(cycles=2):
    return np.concatenate([G * (1 + 0.01 * c) for c in range(cycles)])


def read(tmp_path, text, encoding="utf-8", name="pulses.csv", **options):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return PulseData.read_csv(path, **options)


def same(data, g=None, way=None):
    np.testing.assert_allclose(data.g, wanted() if g is None else g, rtol=1e-6)
    assert data.polarity.tolist() == (WAY * 2 if way is None else way)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
@pytest.mark.parametrize(("sep", "point"), [(",", "."), (";", ","), (";", "."), ("\t", ",")])
def test_dialects(tmp_path, encoding, sep, point) -> None:
    text = long(lambda g: f"{g * 1e6:.9g}", ["G (µS)"], sep=sep, point=point)
    same(read(tmp_path, text, encoding))


@pytest.mark.parametrize(
    ("header", "factor"),
    [
        ("G (uS)", 1e6),
        ("conductance_nS", 1e9),
        ("Conductance [mS]", 1e3),
        ("g/µS", 1e6),
        ("G in pS", 1e12),
        ("conductance", 1.0),
    ],
)
def test_units_of_headers(tmp_path, header, factor) -> None:
    data = read(tmp_path, long(lambda g: f"{g * factor:.9g}", [header]))
    same(data)
    assert any("conductance in" in note for note in data.account)


@pytest.mark.parametrize("volt", [0.1, -0.2])
@pytest.mark.parametrize(("header", "unit"), [("I [uA]", None), ("current", "uA"), ("i", "uA")])
def test_currents_need_their_voltage(tmp_path, header, unit, volt) -> None:
    text = long(lambda g: f"{g * volt * 1e6:.9g}", [header])
    same(read(tmp_path, text, read_voltage=volt, unit=unit))
    with pytest.raises(ValueError, match="read_voltage=0.1"):
        read(tmp_path, text, unit=unit)
    with pytest.raises(ValueError, match="current is negative"):
        read(tmp_path, text, unit=unit, read_voltage=-volt)


@pytest.mark.parametrize(("header", "ohm"), [("R (kOhm)", 1e3), ("resistance", 1.0)])
def test_resistances(tmp_path, header, ohm) -> None:
    same(read(tmp_path, long(lambda g: f"{1 / g / ohm:.9g}", [header])))


WORDS = [
    ("1", "-1", "0"),
    ("+", "-", ""),
    ("LTP", "LTD", ""),
    ("set", "reset", "none"),
    ("1.5", "-1.7", ""),
    ("Potentiation", "Depression", "start"),
]


@pytest.mark.parametrize("words", WORDS, ids=str)
def test_words_of_polarity(tmp_path, words) -> None:
    same(read(tmp_path, long(lambda g: f"{g:.9g}", ["conductance"], words)))


def test_the_sign_of_the_write_voltage_is_the_polarity(tmp_path) -> None:
    text = long(lambda g: f"{g:.9g}", ["conductance"], ("1.2", "-1.4", "0"))
    data = read(tmp_path, text.replace("polarity", "V_write (V)"))
    same(data)
    assert any("sign of V_write" in note for note in data.notes)


def side(up_down):
    """Ramps as columns; shorter ones end in empty fields."""
    rows = itertools.zip_longest(*(c for _, c in up_down))
    lines = [";".join(name for name, _ in up_down)]
    for row in rows:
        lines.append(";".join("" if g is None else f"{g:.9g}".replace(".", ",") for g in row))
    return "\n".join(lines) + "\n;\n"


def test_the_german_spreadsheet(tmp_path) -> None:
    # currents in LTP and LTD columns, semicolons, decimal comma, cp1252
    text = side([("LTP (µA)", UP * 1e5), ("LTD (µA)", DOWN * 1e5)])
    data = read(tmp_path, text, "cp1252", read_voltage=0.1)
    same(data, G, [0] + [1] * 12 + [0] + [-1] * 11)
    assert data.cycle.tolist() == [0] * 13 + [1] * 12 and data.cells == ("0",)
    said = " ".join(data.account)
    assert "current in µA, divided by 0.1 V" in said and "1 ramp up and 1 down" in said
    assert "empty rows left out" in said


@pytest.mark.parametrize(("prefix", "cells"), [("cell", 2), ("device ", 2), ("cycle ", 1)])
def test_columns_side_by_side(tmp_path, prefix, cells) -> None:
    rows = [f"pulse,polarity,{prefix}1 (uS),{prefix}2 (uS)"]
    for k, (g, way) in enumerate(zip(G, WAY, strict=True)):
        rows.append(f"{k},{('', 'up', 'down')[way]},{g * 1e6:.9g},{g * 1.01e6:.9g}")
    data = read(tmp_path, "\n".join(rows))
    same(data)
    assert len(data.cells) == cells


def test_columns_that_may_be_cells_or_cycles_are_asked_for(tmp_path) -> None:
    ramps = [("LTP 1 (uS)", UP * 1e6), ("LTD 1 (uS)", DOWN * 1e6)]
    ramps += [("LTP 2 (uS)", UP * 1e6), ("LTD 2 (uS)", DOWN * 1e6)]
    with pytest.raises(ValueError, match="across='cells'"):
        read(tmp_path, side(ramps))
    assert len(read(tmp_path, side(ramps), across="cells").cells) == 2
    cycles = read(tmp_path, side(ramps), across="cycles")
    assert cycles.cells == ("0",) and int(cycles.cycle.max()) == 3


def test_crosssim_ramps_in_two_files(tmp_path) -> None:
    # set.csv and reset.csv: rmp1, rmp2, ... currents at 0.1 V
    columns = [("rmp1", UP * 0.1), ("rmp2", UP * 0.101)]
    (tmp_path / "reset.csv").write_text(side([("rmp1", DOWN * 0.1), ("rmp2", DOWN * 0.101)]))
    data = read(tmp_path, side(columns), down=tmp_path / "reset.csv", read_voltage=0.1)
    np.testing.assert_allclose(data.g, np.r_[UP, UP * 1.01, DOWN, DOWN * 1.01], rtol=1e-6)
    assert data.cells == ("0",) and int(data.cycle.max()) == 3
    with pytest.raises(ValueError, match="--down"):
        read(tmp_path, side(columns), read_voltage=0.1)


def test_neurosim_arrays(tmp_path) -> None:
    # nonlinear_fit.m: pulse number beside conductance, an array per branch
    up = "\n".join(f"{k}\t{g:.8E}" for k, g in enumerate(UP))
    down = "\n".join(f"{k}\t{g:.8E}" for k, g in enumerate(DOWN, 1))
    text = f"clc;\nexp_LTP_raw=[{up}];\nexp_LTD_raw=[\n{down}];\nA = 3;"
    data = read(tmp_path, text, name="nonlinear_fit.m")
    same(data, G, [0] + [1] * 12 + [0] + [-1] * 11)
    part = [f"{k},{(g - G.min()) / np.ptp(G):.9g}" for k, g in enumerate(UP)]
    with pytest.raises(ValueError, match="window="):  # normalised: siemens would be a guess
        read(tmp_path, "pulse,LTP\n" + "\n".join(part))
    scaled = read(tmp_path, "pulse,LTP\n" + "\n".join(part), window=(1e-6, 5e-6))
    assert float(scaled.g.min()) == 1e-6 and float(scaled.g.max()) == 5e-6


def test_aihwkit_columns_without_a_header(tmp_path) -> None:
    rows = [
        f"{(u - 1e-5) * 1e5:.9g},{(d - 1e-5) * 1e5:.9g}" for u, d in zip(UP[1:], DOWN, strict=True)
    ]
    with pytest.raises(ValueError, match="window="):
        read(tmp_path, "\n".join(rows))
    data = read(tmp_path, "\n".join(rows), window=(5e-6, 9e-6))
    assert data.polarity.tolist() == [0] + [1] * 11 + [0] + [-1] * 11
    assert any("rises is LTP" in note for note in data.notes)


def test_headers_can_be_given(tmp_path) -> None:
    text = long(lambda g: f"{g * 1e6:.9g}", ["conductance"]).partition("\n")[2]
    with pytest.raises(ValueError, match="--columns"):
        read(tmp_path, text)
    same(read(tmp_path, text, columns="cycle,pulse,polarity,G (uS)"))


def test_counts_that_restart_are_said(tmp_path) -> None:
    # pulses counted anew in the ramp down: the trace goes on
    rows = ["pulse,polarity,conductance"]
    rows += [f"{k},{'up' if k else ''},{g:.9g}" for k, g in enumerate(UP)]
    rows += [f"{k},down,{g:.9g}" for k, g in enumerate(DOWN, 1)]
    data = read(tmp_path, "\n".join(rows))
    same(data, G, WAY)
    assert data.pulse.tolist() == list(range(25)) and int(data.cycle.max()) == 0
    assert any("restarts" in note for note in data.notes)
    # counted anew in the same direction: another trace
    again = read(tmp_path, "\n".join(rows[:14] + rows[1:14]))
    assert again.cycle.tolist() == [0] * 13 + [1] * 13


def test_a_varying_amplitude_is_one_scheme_or_refused(tmp_path) -> None:
    rows = ["pulse,polarity,conductance,amplitude (V)"]
    for k, (g, way) in enumerate(zip(G, WAY, strict=True)):
        rows.append(f"{k},{('', 'up', 'down')[way]},{g:.9g},{1.2 if k < 9 else 1.5}")
    with pytest.raises(ValueError, match="amplitude varies.*1.2 to 1.5.*--amplitude 1.2"):
        devices.fit(read(tmp_path, "\n".join(rows)))
    low = read(tmp_path, "\n".join(rows), amplitude=1.2)
    np.testing.assert_allclose(low.g, G[:9], rtol=1e-6)
    assert any("16 reads of others left out" in note for note in low.notes)
    with pytest.raises(ValueError, match="no pulse has"):
        read(tmp_path, "\n".join(rows), amplitude=2.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cell,value\n1,2\n", "polarity"),
        ("polarity,conductance\nsideways,1e-6\n", "line 2.*up or down"),
        ("polarity,conductance\nup,many\nup,2e-6\n", "line 2.*must be a number"),
        ("polarity,conductance\nup,25\n", "unit='uS'"),
        ("polarity,conductance\n", "no reads"),
        ("pulse,polarity,conductance\n0,,1e-6\n0.7,up,2e-6\n", "line 3: pulse.*whole number"),
        ("polarity,G (uS),conductance\nup,1,1e-6\n", "G and conductance both"),
        ('polarity,conductance\nup,1.5e-6\ndown,"1,5e-6"\n', "--decimal"),
        ("polarity;conductance\nup;1,500\ndown;2,250\n", "thousand or a decimal"),
        ("polarity,G (uA)\nup,1\n", "unit uA is not"),
        ("", "no rows"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(tmp_path, text, words) -> None:
    with pytest.raises(ValueError, match=words):
        read(tmp_path, text)


def test_failed_reads_empty_rows_and_other_columns_are_said(tmp_path) -> None:
    text = "Keithley 4200,,,\npulse,polarity,conductance,comment\n,,uS,\n"
    text += "0,,1,a\n1,up,nan,b\n2,up,2,\n,,,\n"
    data = read(tmp_path, text)
    said = " ".join(data.account)
    assert len(data) == 3 and torch.isnan(data.g[1])
    for words in ("1 failed reads", "1 empty rows", "comment", "above the table", "1 (2 times)"):
        assert words in said, words


def test_round_trip(tmp_path) -> None:
    data = read(tmp_path, long(lambda g: f"{g:.9g}", ["conductance"]))
    data.write_csv(tmp_path / "again.csv")
    again = PulseData.read_csv(tmp_path / "again.csv")
    for name in ("cycle", "pulse", "polarity"):
        assert torch.equal(getattr(again, name), getattr(data, name))
    torch.testing.assert_close(again.g, data.g, rtol=1e-5, atol=0)


def workbook(path, rows, *, shared: bool, other: str | None = None) -> None:
    """An .xlsx as Excel writes it, strings in a table of their own or in place."""
    texts: list[str] = []

    def cell(value, row: int, column: int) -> str:
        name = f"{chr(65 + column)}{row}"
        if isinstance(value, float):
            return f'<c r="{name}"><v>{value!r}</v></c>'
        if shared:
            texts.append(value)
            return f'<c r="{name}" t="s"><v>{len(texts) - 1}</v></c>'
        return f'<c r="{name}" t="inlineStr"><is><t>{value}</t></is></c>'

    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    link = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    body = "".join(
        f'<row r="{i}">'
        + "".join(cell(v, i, c) for c, v in enumerate(row) if v is not None)
        + "</row>"
        for i, row in enumerate(rows, 1)
    )
    sheets = {"Messung": body} | ({other: body} if other else {})
    with zipfile.ZipFile(path, "w") as book:
        names = "".join(
            f'<sheet name="{name}" sheetId="{k}" r:id="rId{k}"/>'
            for k, name in enumerate(sheets, 1)
        )
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{link}"><sheets>{names}</sheets></workbook>',
        )
        links = "".join(
            f'<Relationship Id="rId{k}" Type="{link}/worksheet" Target="worksheets/sheet{k}.xml"/>'
            for k in range(1, len(sheets) + 1)
        )
        book.writestr("xl/_rels/workbook.xml.rels", f"<Relationships>{links}</Relationships>")
        for k, text in enumerate(sheets.values(), 1):
            sheet = f'<worksheet xmlns="{main}"><sheetData>{text}</sheetData></worksheet>'
            book.writestr(f"xl/worksheets/sheet{k}.xml", sheet)
        if shared:
            items = "".join(f"<si><r><t>{t}</t></r></si>" for t in texts)
            book.writestr("xl/sharedStrings.xml", f'<sst xmlns="{main}">{items}</sst>')


@pytest.mark.parametrize("shared", [True, False])
def test_excel_workbooks(tmp_path, shared: bool) -> None:
    path = tmp_path / "ramps.xlsx"
    half = len(G) // 2 + 1
    ramps = list(itertools.zip_longest(G[:half] * 1e5, G[half - 1 :] * 1e5))
    rows = [["Chip 7", None], ["LTP (µA)", "LTD (µA)"]]
    rows += [[None if v is None else float(v) for v in row] for row in ramps]
    workbook(path, rows, shared=shared)
    data = PulseData.read_csv(path, read_voltage=0.1)
    np.testing.assert_allclose(data.g, np.r_[G[:half], G[half - 1 :]], rtol=1e-9)
    assert "Excel, sheet Messung" in data.notes
    workbook(path, rows, shared=shared, other="Kopie")
    with pytest.raises(ValueError, match="Messung, Kopie.*--sheet"):
        PulseData.read_csv(path, read_voltage=0.1)
    assert len(PulseData.read_csv(path, read_voltage=0.1, sheet="Kopie")) == len(data)
    with pytest.raises(ValueError, match="no sheet is named 'X'"):
        PulseData.read_csv(path, read_voltage=0.1, sheet="X")
    path.write_bytes(b"PK\x03\x04" + bytes(80))
    with pytest.raises(ValueError, match=r"no \.xlsx that can be read"):
        PulseData.read_csv(path)


def soft_rows(names: str, row) -> str:
    return (
        names + "\n" + "\n".join(row(k, w, g) for k, (w, g) in enumerate(zip(WAY, G, strict=True)))
    )


def test_headers_in_german(tmp_path) -> None:
    word = {0: "", 1: "SET", -1: "RESET"}
    text = soft_rows(
        "Puls;Richtung;Leitwert (µS)",
        lambda k, w, g: f"{k};{word[w]};{g * 1e6:.9g}".replace(".", ","),
    )
    np.testing.assert_allclose(read(tmp_path, text).g, G, rtol=1e-6)


def test_numbered_columns_are_cells_or_cycles_as_said(tmp_path) -> None:
    text = soft_rows(
        "pulse,polarity,1,2", lambda k, w, g: f"{k},{'up' if w >= 0 else 'down'},{g:.9g},{g:.9g}"
    )
    with pytest.raises(ValueError, match="--across"):
        read(tmp_path, text)
    assert read(tmp_path, text, across="cells").cells == ("1", "2")
    cycles = read(tmp_path, text, across="cycles")
    assert len(cycles.cells) == 1 and set(cycles.cycle.tolist()) == {0, 1}


def test_every_ramp_may_have_its_own_count(tmp_path) -> None:
    half = len(G) // 2 + 1
    rows = ["LTP pulse,LTP G (uS),LTD pulse,LTD G (uS)"]
    for k, (up, down) in enumerate(zip(G[:half], G[half - 1 :], strict=False)):
        rows.append(f"{5 * k},{up * 1e6:.9g},{2 * k},{down * 1e6:.9g}")
    data = read(tmp_path, "\n".join(rows))
    first = data.cycle == 0
    assert data.pulse[first].tolist() == [5 * k for k in range(half)]
    assert data.pulse[~first].tolist() == [2 * k for k in range(len(data) - half)]


def test_a_count_that_falls_is_none(tmp_path) -> None:
    word = {0: "", 1: "up", -1: "down"}
    text = soft_rows("pulse,polarity,conductance", lambda k, w, g: f"{99 - k},{word[w]},{g:.9g}")
    with pytest.raises(ValueError, match="count falls.*--columns"):
        read(tmp_path, text)
