"""The studies of mappings and of equations, from the command line to their reports."""

from __future__ import annotations

import pytest

from experiments.lab.command import main


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["solver", "--size", "24"], ["mappings", "--seeds", "1", "--epochs", "1"]],
    ids=lambda a: a[0],
)
def test_small_ones_run_to_a_report(arguments, tmp_path, capsys):
    assert main([*arguments, "--workers", "1", "--out", str(tmp_path)]) == 0
    page = (tmp_path / arguments[0] / "report.html").read_text()
    told = capsys.readouterr().out
    if arguments[0] == "solver":
        assert "holds  Two slices solve what is well conditioned" in " ".join(told.split("\n"))
        assert "GMRES, no array" in page
    else:
        assert "three pairs, by a counter" in page and "Converters a tile" in page


@pytest.mark.parametrize("arguments", [["solver", "--size", "1"], ["mappings", "--seeds", "0"]])
def test_options_that_make_no_sense_are_refused(arguments, tmp_path, capsys):
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert "must be >= " in capsys.readouterr().err
