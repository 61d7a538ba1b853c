"""How ramps lie in files, and what their headers are called: the same reads, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest

import devices
from tests.test_fit_files import DOWN, UP, WAY, G, read

HALF = len(UP)


def beside(head: str, row, count: int = HALF) -> str:
    """Ramps up and down side by side, a row of each pulse."""
    both = zip(UP * 1e6, np.r_[UP[-1], DOWN] * 1e6, strict=True)
    return "\n".join([head, *(row(k, u, d) for k, (u, d) in enumerate(both))][: count + 1])


def ramps(data) -> tuple[list[float], list[float]]:
    first = data.cycle == 0
    assert data.pulse[first].tolist() == data.pulse[~first].tolist() == list(range(HALF))
    return data.g[first].tolist(), data.g[~first].tolist()


@pytest.mark.parametrize(
    ("head", "row", "said"),
    [
        ("Pulse number,LTP (uS),Pulse number,LTD (uS)", "{k},{u},{k},{d}", ""),
        ("Pulse,LTP (uS),Pulse,LTD (uS)", "{k},{u},{r},{e}", "turned round"),
        ("Time[ns]_LTP,G_LTP (uS),Time[ns]_LTD,G_LTD (uS)", "{t},{u},{t},{d}", "not used"),
        ("t (s),LTP (uS),t (s),LTD (uS)", "{t},{u},{t},{d}", "not used"),
        ("LTP (uS),,LTD (uS),\nX,Y,X,Y", "{x},{u},{x},{d}", "rounded"),
    ],
)
def test_ramps_with_abscissae_of_their_own(tmp_path, head, row, said) -> None:
    """As plotting programs and digitised figures are saved: an x before each y."""
    down = np.r_[UP[-1], DOWN] * 1e6

    def line(k, u, d):
        own = {"k": k, "r": HALF - 1 - k, "e": f"{down[HALF - 1 - k]:.9g}", "t": 0.37 * k}
        return row.format(u=f"{u:.9g}", d=f"{d:.9g}", x=k + 0.2 * (-1) ** k, **own)

    data = read(tmp_path, beside(head, line))
    for mine, theirs in zip(ramps(data), (UP, down / 1e6), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    assert said in "; ".join(data.notes)


def test_rows_that_are_ramps(tmp_path) -> None:
    """A row a branch, of unequal lengths, under a line about the device."""
    lines = ["(U2,2,4) tprog: 0.0002"]
    for ramp, word in ((UP, "LTP"), (np.r_[UP[-1], DOWN][:-2], "LTD")):
        lines.append(", ".join([word, *(f"{g:.9g}" for g in ramp)]))
    data = read(tmp_path, "\n".join(lines))
    np.testing.assert_allclose(data.g, np.r_[UP, UP[-1], DOWN[:-2]], rtol=1e-6)
    assert int((data.polarity > 0).sum()) == 12 and int((data.polarity < 0).sum()) == 10
    renamed = "\n".join(lines).replace("LTP", "Gerase").replace("LTD", "Gprog")
    with pytest.raises(ValueError, match="name it LTP or LTD"):
        read(tmp_path, renamed, across="cycles")


@pytest.mark.parametrize("start", [0, 1, None])
def test_pulses_up_then_down_as_said(tmp_path, start) -> None:
    """One column of reads; how many pulses go each way is asked for and said."""
    g = G if start != 1 else G[1:]
    rows = [f"{k + (start or 0)},{v:.9g}" for k, v in enumerate(g)]
    head = "pulse,G (S)"
    if start is None:
        head, rows = "G (S)", [row.split(",")[1] for row in rows]
    with pytest.raises(ValueError, match="--ramps 100 100"):
        read(tmp_path, "\n".join([head, *rows]))
    data = read(tmp_path, "\n".join([head, *rows]), ramps=(12, 12))
    assert data.polarity.tolist() == (WAY if start != 1 else WAY[1:])
    np.testing.assert_allclose(data.g, g, rtol=1e-6)
    alone = read(tmp_path, "\n".join([head, *rows[: len(UP) - 1]]), ramps=(12, 0))
    assert int((alone.polarity < 0).sum()) == 0
    with pytest.raises(ValueError, match="ramps"):
        read(tmp_path, "\n".join([head, *rows]), ramps=(0, 0))


@pytest.mark.parametrize(("label", "cells"), [("cycle {}", 1), ("dev{}", 3)])
def test_columns_of_pulses_up_then_down_as_said(tmp_path, label, cells) -> None:
    """A cell or a cycle a column, each with both directions or with one."""
    head = ",".join(["pulse", *(f"{label.format(k)} (uS)" for k in range(3))])
    rows = [",".join([f"{k}", *(f"{1e6 * v * (1 + n / 50):.9g}" for n in range(3))])
            for k, v in enumerate(G)]  # fmt: skip
    with pytest.raises(ValueError, match="--ramps 50 50"):
        read(tmp_path, "\n".join([head, *rows]))
    data = read(tmp_path, "\n".join([head, *rows]), ramps=(12, 12))
    assert len(set(data.cell)) == cells and len(set(data.cycle.tolist())) == 3 // cells
    assert data.pulse.tolist() == 3 * list(range(len(G)))
    assert data.polarity.tolist() == 3 * WAY
    np.testing.assert_allclose(data.g[: len(G)], G, rtol=1e-6)
    alone = read(tmp_path, "\n".join([head, *rows[: len(UP)]]), ramps=(12, 0))
    assert alone.polarity.tolist() == 3 * WAY[: len(UP)]
    named = head.replace(label.format(0), "LTP").replace(label.format(1), "LTD")
    with pytest.raises(ValueError, match="--ramps.*ramps themselves"):
        read(tmp_path, "\n".join([named, *rows]), ramps=(12, 12))


def test_a_count_without_a_header_is_no_ramp(tmp_path) -> None:
    """Two columns of which the first is 0, 1, 2, …: it rose, and was taken for the ramp up."""
    text = "\n".join(f"{k},{1e6 * g:.9g}" for k, g in enumerate(np.r_[UP, DOWN, DOWN[-1] - 1e-7]))
    with pytest.raises(ValueError, match="--ramps"):
        read(tmp_path, text, unit="uS")
    data = read(tmp_path, text, unit="uS", ramps=(12, 13))
    assert data.polarity.tolist() == [*WAY, -1] and data.g[0] == pytest.approx(UP[0])
    assert any("counts pulses" in note for note in data.notes)


def test_a_ramp_down_listed_backwards_is_named(tmp_path) -> None:
    text = beside(
        "LTP (uS),LTD (uS)", lambda k, u, d: f"{u:.9g},{(UP[-1] + DOWN[-1]) * 1e6 - d:.9g}"
    )
    with pytest.raises(ValueError, match="ramps down move the conductance as ramps up do"):
        devices.fit(read(tmp_path, text))


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("# pulse,polarity,G (uS)", "{k},{w},{u}"),
        ("# of pulses\tConductance / uS\tPolarity", "{k}\t{u}\t{s}"),
        ("% pulse polarity G_uS", "{k} {w} {u}"),
        ("PulseNum,V_write (V),Read Voltage,I_read (uA)", "{k},{w}.2,0.5,{i}"),
        ("Pulse,VGS (V),IDS (uA),VDS (V)", "{k},{w},{i},0.5"),
        ("time (s),V (V),G (uS)", "0.{k},{w},{u}"),
        ("n,P/D,Conductance (uS)", "{k},{p},{u}"),
        ("Pulse,LTP/LTD,Conductance (uS)", "{k},{l},{u}"),
        ("脉冲数,方向,电导(uS)", "{k},{s},{u}"),
        ("pulse_id,pulse_type,mean_conductance_uS,std_conductance_uS", "{k},{p},{u},0.1"),
    ],
)
def test_headers_as_instruments_and_scripts_write_them(tmp_path, head, row) -> None:
    lines = [head]
    for k, (w, g) in enumerate(zip(WAY, G, strict=True)):
        words = {1: ("up", "P", "LTP"), -1: ("down", "D", "LTD"), 0: ("up", "P", "LTP")}[w]
        own = dict(zip("spl", words, strict=True))
        lines.append(row.format(k=k, w=w or 1, u=f"{g * 1e6:.9g}", i=f"{g * 5e5:.9g}", **own))
    data = read(tmp_path, "\n".join(lines))
    np.testing.assert_allclose(data.g, G, rtol=1e-6)
    assert data.polarity.tolist()[1:] == WAY[1:]
