"""The documented part of one's own runs as a script of one's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import devices

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "devices.md").read_text()


def test_the_documented_law_is_a_script_that_passes_the_contract(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    (tmp_path / "my_cell.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "my_cell.py"]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    law = code[code.index("@dataclass") : code.index("check(Bell())")]
    assert len([line for line in law.splitlines() if line.strip()]) <= 20


def test_the_contract_decides_about_the_documented_law(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    wrong = code.replace("lambda g: -up(g)", "lambda g: up(g)")
    assert wrong != code
    (tmp_path / "my_cell.py").write_text(wrong)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "my_cell.py"]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "raised g by 1 down pulses" in done.stderr


def test_every_part_is_on_the_page():
    for name, value in vars(devices).items():
        if isinstance(value, type) and issubclass(value, devices.Part):
            if value.__module__ != "devices.part":
                assert f"`{name}`" in PAGE, name
