"""Sites of several versions in one folder, each as it was built: `make site`.

    python docs/versions.py build/docs/html build/site

copies a built site to build/site/VERSION and lists the versions on build/site/index.html, which
leads to the newest. Nothing is fetched: it works from a folder and from any server of files.
"""

import re
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="3; url={newest}/index.html">
<title>analog-crossbar, all versions</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1.1rem/1.6 system-ui, sans-serif; margin: 3rem auto; max-width: 30rem }}
</style>
<h1>analog-crossbar</h1>
<p>The newest version follows in three seconds; all of them:</p>
<ul>
{lines}
</ul>
</html>
"""


def key(version: str) -> list[tuple[int, str]]:
    """Numbers as numbers: 0.10 comes after 0.9, and 0.9rc1 before it."""
    parts = re.findall(r"\d+|[a-z]+", version)
    return [*((int(p), "") if p.isdigit() else (-1, p) for p in parts), (0, "")]


def release(root: Path = ROOT) -> str:
    """The version that the checkout says it is."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def keep(html: Path, site: Path, version: str) -> None:
    """The built site in the place of its version, and the list of all.

    Raises:
        FileNotFoundError: no site was built.
    """
    if not (html / "index.html").is_file():
        raise FileNotFoundError(f"{html} has no index.html: `make docs` first")
    shutil.rmtree(site / version, ignore_errors=True)
    shutil.copytree(html, site / version, ignore=shutil.ignore_patterns(".buildinfo", ".doctrees"))
    found = [path.parent.name for path in site.glob("*/index.html")]
    found.sort(key=key, reverse=True)
    lines = "\n".join(f'<li><a href="{one}/index.html">{one}</a></li>' for one in found)
    (site / "index.html").write_text(PAGE.format(newest=found[0], lines=lines))


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]), release())
