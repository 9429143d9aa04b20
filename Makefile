# Everything runs in .venv. A stamp file says when what is in there was last
# brought up to date; without a stamp, .venv is unfinished and is made again.

VENV := .venv
BIN := $(VENV)/bin
DEV := $(VENV)/.dev-installed
DOCS := $(VENV)/.docs-installed
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TORCH = $(shell sed -n 's/^torch==//p' constraints.txt)

# Sets $$python to the first suitable interpreter: PYTHON=... or a usual name.
define FIND_PYTHON
for python in $(or $(PYTHON),python3 python3.11 python3.12 python3.13); do \
    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
        2>/dev/null && break; \
    python=; \
done; \
if [ -z "$$python" ]; then \
    echo "sbi_aalr needs Python 3.11 or newer, and none of these is:" \
        "$(or $(PYTHON),python3 python3.11 python3.12 python3.13)." \
        "Name one with: make PYTHON=/path/to/python" >&2; \
    exit 1; \
fi
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format docs dist bench compare constraints clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
	    while IFS='|' read -r target text; do printf '%-12s %s\n' "$$target" "$$text"; done

demo: $(DEV) ## Run the main job on SLCP; options go in ARGS="..."
	$(BIN)/sbi-aalr demo $(ARGS)

test: export MPLBACKEND := Agg
test: $(DEV) ## Run tests and examples in docstrings and pages; all with ARGS='-m ""'
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEV) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV) ## Put the code in its standard format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: export MPLBACKEND := Agg
docs: $(DOCS) ## Build the documentation in docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

dist: $(DEV) ## Build sdist and wheel in dist/, and check them
	rm -rf dist
	@$(PIP_INSTALL) -e '.[dist]'
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

bench: $(DEV) ## Measure the sampler beside others; ARGS="many", "rate", "growth"
	$(BIN)/python benchmarks/sampler.py $(or $(ARGS),one)

compare: $(DEV) ## Compare with sbi's other methods; takes hours, and can be stopped
	$(BIN)/sbi-aalr compare $(ARGS)

constraints: ## Pin the newest versions allowed; another torch with TORCH=...
	@$(FIND_PYTHON); \
	set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	echo 'torch==$(TORCH)' > "$$scratch/torch.txt"; \
	"$$python" -m venv "$$scratch/venv"; \
	"$$scratch/venv/bin/python" -m pip install --quiet \
	    -c "$$scratch/torch.txt" '.[dev,docs]'; \
	{ \
	    echo '# The whole environment in which everything is tested, all extras included. To make'; \
	    echo '# it anew, on the oldest Python supported: make constraints PYTHON=python3.11'; \
	    "$$scratch/venv/bin/python" -m pip freeze --all \
	        --exclude pip --exclude sbi-aalr | \
	        sed 's/^\(torch==[^+]*\)+.*/\1/'; \
	} > "$$scratch/constraints.txt"; \
	cp "$$scratch/constraints.txt" constraints.txt

clean: ## Remove .venv, caches and built pages; results in runs/ stay
	rm -rf $(VENV) build dist docs/_build docs/jupyter_execute
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp goes first, so that an interrupted update is not taken for a whole one.
$(DEV): pyproject.toml constraints.txt sbi_aalr/_version.py
	@if [ ! -e $@ ]; then \
	    $(FIND_PYTHON); \
	    echo "Making $(VENV) with $$("$$python" --version). This takes some minutes."; \
	    "$$python" -m venv --clear $(VENV); \
	fi
	@rm -f $(DEV) $(DOCS)
	@$(PIP_INSTALL) --no-compile -c constraints.txt -e '.[dev]'
	@# On all cores, where pip compiles on one. Some packages have files that cannot be.
	@$(BIN)/python -m compileall -qq -j 0 -x /tests/ $(VENV)/lib || true
	@touch $@

$(DOCS): $(DEV)
	@$(PIP_INSTALL) -c constraints.txt -e '.[docs]'
	@touch $@
