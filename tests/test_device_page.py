"""The page of presets, for one that is pulsed and one that is only programmed."""

import pytest

from experiments.lab.command import main


@pytest.mark.slow
def test_the_page_draws_what_a_preset_does(tmp_path):
    pytest.importorskip("matplotlib")
    chosen = ["--preset", "ecram_li", "--preset", "pcm"]
    assert main(["devices", *chosen, "--out", str(tmp_path), "--workers", "1"]) == 0
    page = (tmp_path / "devices" / "report.html").read_text()
    assert "ecram_li" in page and "60 µS … 160 µS" in page and "Tang et al." in page
    assert "write-only" in page
    assert "0.1153 up, 0.5085 down" in page  # the parameter table of the docstring
    figures = {path.name for path in (tmp_path / "devices" / "figures").iterdir()}
    assert figures == {
        f"{name}.{kind}" for name in ("ecram_li", "pcm") for kind in ("csv", "png", "svg")
    }


def test_an_unknown_preset_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["devices", "--preset", "unobtainium", "--out", str(tmp_path)])
    assert "unobtainium" in capsys.readouterr().err
