# `make demo` and `make test` are all that a newcomer types: what they need, they install into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# A package index of one's own (PIP_INDEX_URL, pip.conf) is honoured: the hashes decide what may be installed.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Each is a program of its own: two of them have a package `app`.
EXAMPLES := examples/tracklore examples/guide examples/game-library examples/isaas

.DEFAULT_GOAL := help
.PHONY: help demo example test timed lint format bench budget docs lock site check-deploy image dist sbom clean

help: ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1	\2/'

demo: $(STAMP) ## the gateway in front of small real services, with curl lines to try
	@$(BIN)/propylon demo

example: $(STAMP) ## one of the example systems, with curl lines to try: make example NAME=isaas
	@test -n "$(NAME)" || { echo "Which one? make example NAME=tracklore (or guide, game-library, isaas)" >&2; exit 2; }
	@$(BIN)/python examples/run.py $(NAME) $(if $(PORT),--port $(PORT))

test: $(STAMP) ## every test; one part of them: make test ARGS=tests/wire
	@$(BIN)/python -m pytest $(ARGS)

timed: $(STAMP) ## the times that the acceptance checklist names, on a machine that does nothing else
	@$(BIN)/python -m pytest --numprocesses=0 -m timed $(ARGS)

lint: $(STAMP) ## style, types and import layers
	@$(BIN)/ruff check .
	@$(BIN)/black --check --quiet . || { $(BIN)/black --check .; exit 1; }
	@$(BIN)/mypy
	@for example in $(EXAMPLES); do (cd $$example && ../../$(BIN)/mypy --config-file ../../pyproject.toml .) || exit 1; done
	@$(BIN)/lint-imports

format: $(STAMP) ## put the style right where a program can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/black --quiet .

bench: $(STAMP) ## Propylon beside the gateways that this machine has; prints a table of ratios
	@$(BIN)/python bench/run.py $(ARGS)

budget: $(STAMP) ## instructions of a request under valgrind, against bench/instructions.json: more than 3 % above fails
	@$(BIN)/python bench/instructions.py --check

docs: $(STAMP) ## write docs/reference and propylon.schema.json anew from the code
	@$(BIN)/python docs/generate.py

# The stamp is as new as the last complete install; an install that failed leaves none, and the next `make` starts over.
$(STAMP): requirements-dev.lock pyproject.toml hatch_build.py src/propylon/wire/_heads.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Propylon needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1 || true). Say which to use: make PYTHON=python3.11" >&2; exit 1; }
	@echo "Installing into $(VENV), once: about a minute ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python .ci/progress install --progress-bar off --require-hashes -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# Needs uv (https://docs.astral.sh/uv/): one lock for every platform and Python version.
# pip before 23.3 (that of Python 3.11) looks for `coverage[toml]`, which pytest-cov needs, among names with extras only: so the extras stay.
LOCK_GROUPS := uv pip compile --quiet --no-config --universal --python-version 3.11 --no-strip-extras --generate-hashes \
	--custom-compile-command "make lock"
LOCK := $(LOCK_GROUPS) pyproject.toml

lock: ## resolve the dependencies anew (UPGRADE=--upgrade takes the newest)
	$(LOCK) $(UPGRADE) --extra postgres --extra otel --extra compression --output-file requirements.txt
	$(LOCK) $(UPGRADE) --constraints requirements.txt --group dev --output-file requirements-dev.lock
	for group in build docs deploy release; do \
	  $(LOCK_GROUPS) $(UPGRADE) --constraints requirements-dev.lock --group $$group --output-file requirements-$$group.lock || exit; done

# Tools that only a release, the site or the deployment files need: each kind in an environment of its own, from its own lock.
TOOLS := .tools
$(TOOLS)/%/.installed: requirements-%.lock
	@$(PYTHON) -m venv $(TOOLS)/$*
	@$(TOOLS)/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-$*.lock
	@touch $@

site: $(TOOLS)/docs/.installed ## build the documentation site into build/site; a dead link fails
	@PROPYLON_ROOT=$(CURDIR) $(TOOLS)/docs/bin/mkdocs build --strict --quiet

check-deploy: $(TOOLS)/deploy/.installed ## lint the Dockerfile; hold compose, manifests, chart and workflows against their schemas
	@$(TOOLS)/deploy/bin/hadolint Dockerfile
	@$(TOOLS)/deploy/bin/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	@$(TOOLS)/deploy/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(TOOLS)/deploy/bin/python deploy/check_kubernetes.py

image: ## build the image with buildah and try it: read-only, not root, SIGTERM (needs root)
	@deploy/check-image

# The wheel is for any platform; a release has those with the compiled part beside it, from cibuildwheel.
dist: $(TOOLS)/release/.installed ## sdist and wheel, into dist/
	@rm -rf dist && PROPYLON_PURE=1 $(TOOLS)/release/bin/python -m build --no-isolation --outdir dist . >/dev/null && ls dist

# Of what a deployment installs, not of this machine: an environment of requirements.txt alone is looked at.
sbom: dist ## the SBOM of the run-time dependencies, into dist/propylon.cdx.json
	@rm -rf $(TOOLS)/runtime && $(PYTHON) -m venv --without-pip $(TOOLS)/runtime
	@$(TOOLS)/release/bin/python -m pip --python $(TOOLS)/runtime/bin/python install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@$(TOOLS)/release/bin/python -m pip --python $(TOOLS)/runtime/bin/python install --quiet --disable-pip-version-check --no-deps --no-index dist/*.whl
	@$(TOOLS)/release/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible --output-file dist/propylon.cdx.json $(TOOLS)/runtime/bin/python
	@$(TOOLS)/runtime/bin/python -c 'import json, sys, propylon; p = sys.argv[1]; bom = json.load(open(p)); \
	  bom["metadata"]["component"]["version"] = propylon.__version__; json.dump(bom, open(p, "w"), indent=2)' dist/propylon.cdx.json
	@echo dist/propylon.cdx.json

clean: ## remove everything that make made
	rm -rf $(VENV) $(TOOLS) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache htmlcov .coverage .coverage.*
	find src -name '_*.abi3.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
