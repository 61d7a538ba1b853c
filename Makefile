# make demo        train digitally, in situ and hardware-aware on emulated devices; write the report
# make test        lint, type-check and run the fast tests
# make test-slow   the long tests
# make docs        the site, its pages executed: build/docs/html/index.html
# make site        the same, kept beside other versions: build/site/VERSION
# make notebooks   the tutorials as Jupyter notebooks: build/notebooks/first.ipynb and others
# make bench       speed ratios against torch.nn
# make lint        ruff and mypy only
# make clean       remove .venv and caches
#
# Each target first creates .venv with the exact versions of constraints.txt. Variables:
#   PIP_INDEX=URL  an additional package index. For a CPU-only torch (much smaller on Linux):
#                      make demo PIP_INDEX=https://download.pytorch.org/whl/cpu
#   PYTHON=PATH    the interpreter to use; default: the first one >= 3.11 on the PATH
#   ARGS="..."     more arguments for the experiment of `make demo`, such as ARGS=--quick
#   JOBS=N         processes of tests and of the site, default 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS := $(VENV)/.docs
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check $(if $(CI),-q) -c constraints.txt \
    $(if $(PIP_INDEX),--extra-index-url $(PIP_INDEX))
PYTHON ?=
PIP_INDEX ?=
ARGS ?=
JOBS ?= 2

.PHONY: demo test test-slow docs site notebooks bench lint clean
.DELETE_ON_ERROR:

demo: $(STAMP)
	$(BIN)/python -m experiments robustness $(ARGS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(JOBS)

test-slow: $(DOCS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n $(JOBS)

docs: $(DOCS)
	$(BIN)/python -m sphinx -W --keep-going -q -j $(JOBS) -b html -d build/docs/trees docs build/docs/html
	@echo "build/docs/html/index.html"

site: docs
	$(BIN)/python docs/versions.py build/docs/html build/site

notebooks: $(DOCS)
	$(BIN)/python docs/notebooks.py build/notebooks
	@echo "build/notebooks"

bench: $(STAMP)
	@set -e; for script in benchmarks/bench_*.py; do echo "== $$script"; \
	    OMP_NUM_THREADS=1 $(BIN)/python $$script; done

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The index is an extra one: PyPI stays the source of everything else, and pip prefers torch's
# CPU build because 2.13.0+cpu is the higher version of 2.13.0.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	new='import sys; sys.exit(sys.version_info < (3, 11))'; \
	py='$(PYTHON)'; \
	if [ -z "$$py" ]; then \
	    for name in python3 python3.13 python3.12 python3.11; do \
	        if $$name -c "$$new" >/dev/null 2>&1; then py=$$name; break; fi; \
	    done; \
	    if [ -z "$$py" ]; then \
	        echo "error: no Python >= 3.11 on the PATH; install one or name it: make PYTHON=/path/to/python3" >&2; \
	        exit 1; \
	    fi; \
	elif ! $$py -c "$$new"; then \
	    echo "error: PYTHON=$$py is not a working Python >= 3.11" >&2; exit 1; \
	fi; \
	if ! $$py -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	    version=$$($$py -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "error: $$py cannot create virtual environments (venv or ensurepip is missing)." >&2; \
	    echo "On Debian or Ubuntu: apt-get install python3-venv (or python$$version-venv)." >&2; \
	    exit 1; \
	fi; \
	echo "Creating $(VENV) with $$($$py --version) ..."; \
	$$py -m venv --clear $(VENV)
	$(INSTALL) -e '.[experiments,dev]'
	@touch $@

$(DOCS): $(STAMP)
	$(INSTALL) -e '.[experiments,dev,docs]'
	@touch $@
