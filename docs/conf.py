"""The site: `make docs` executes its pages and writes build/docs/html. Any warning is an error."""

import hashlib
import logging
import os
import sys
import tomllib
import warnings
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "_ext")]

import inventories  # noqa: E402
from jupyter_cache import get_cache  # noqa: E402

project = "analog-crossbar"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
copyright = "the analog-crossbar authors, MIT licence"

extensions = [
    "api",
    "sources",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinxcontrib.katex",
]
exclude_patterns = [
    *("_ext", "_static", "gallery", "inventories"),
    *(f"figures/*.{kind}" for kind in ("py", "ipynb", "json", "md5", "zip")),
]

# ---- links: what does not resolve is an error; other projects' names without a network -----------

nitpicky = True
default_role = "py:obj"
# A name in single backticks becomes a link where it is one: half are arguments and formulas.
nitpick_ignore_regex = [
    ("py:obj", ".*"),
    ("py:class", r"numpy\._typing\..*|.*\b_\w+|\w+|tuple\[\w+"),  # unfolded aliases, private bases
]
suppress_warnings = ["ref.python"]  # `State` of a cell or of a neuron: the nearer one is taken
intersphinx_mapping = inventories.mapping(HERE / "inventories", ROOT / "build" / "docs")
intersphinx_disabled_reftypes = ["std:*"]

# ---- reference -----------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_param = False  # "sigma_c2c, sigma_d2d: see NominalStep" is one line, not two types
viewcode_line_numbers = True

# ---- pages that are executed ---------------------------------------------------------------------

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # [s] a cell, on a machine that others use
nb_merge_streams = True
nb_render_markdown_format = "myst"  # tables, and roles that become links


def code() -> str:
    """What the outputs of a page depend on besides the page: our sources, torch, matplotlib."""
    digest = hashlib.sha256()
    for floor in ("devices", "crossbar", "experiments"):
        for path in sorted((ROOT / floor).rglob("*.py")):
            digest.update(path.read_bytes())
    for path in sorted([*HERE.glob("data/*.npz"), *HERE.glob("data/*.json")]):
        digest.update(path.read_bytes())
    for name in ("torch", "numpy", "scipy", "matplotlib"):
        digest.update(metadata.version(name).encode())
    return digest.hexdigest()[:16]


nb_execution_cache_path = str(ROOT / "build" / "docs" / "executed" / code())
get_cache(nb_execution_cache_path).list_cache_records()  # made before several processes would
# The pages' processes: this checkout's packages, one thread, figures in the site's style.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MATPLOTLIBRC"] = str(HERE / "_static" / "matplotlibrc")
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
warnings.filterwarnings("ignore", category=DeprecationWarning)
# Kernels speak over the loopback only, and say at every start that this is not encrypted; a
# configuration of our own also leaves the reader's out.
os.environ["IPYTHONDIR"] = str(ROOT / "build" / "docs" / "ipython")
profile = Path(os.environ["IPYTHONDIR"], "profile_default")
profile.mkdir(parents=True, exist_ok=True)
(profile / "ipython_kernel_config.py").write_text("c.IPKernelApp.log_level = 40  # errors\n")
logging.getLogger("traitlets").setLevel(logging.WARNING)

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "figures",  # written by the build
    "filename_pattern": ".",
    "reset_modules": ("style.reset",),
    "image_srcset": ["2x"],
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,
    "only_warn_on_example_error": False,
}

# ---- looks ---------------------------------------------------------------------------------------

html_theme = "furo"
html_title = f"analog-crossbar {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_search_summary = False  # they are fetched, which a folder refuses
html_copy_source = False
html_show_sourcelink = False
html_math_renderer = "katex"  # the package brings the script; style and fonts lie beside site.css
katex_css_path = "katex/katex.min.css"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0860ca",
        "color-brand-content": "#0860ca",
        "color-brand-visited": "#0860ca",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7db8ff",
        "color-brand-content": "#7db8ff",
        "color-brand-visited": "#7db8ff",
    },
}
