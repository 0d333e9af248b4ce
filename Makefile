# `make` alone lists the targets. Everything is made in .venv; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Bytecode is written at install: without it every process would compile MLflow anew.
unexport PYTHONDONTWRITEBYTECODE
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check quick docs quality soak bench bench-affinity bench-reasons bench-night clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit("persopredict needs Python 3.11 or later, found " + sys.version.split()[0] + "; make PYTHON=python3.11 …") if sys.version_info < (3, 11) else None'
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

# uv is pip's resolver in Rust: it installs the same wheels in a tenth of the time.
$(VENV)/.demo: $(BIN)/uv pyproject.toml constraints.txt
	@echo "installing persopredict and its demo data"
	@$(UV) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "installing the development tools"
	@$(UV) --group dev --group docs --editable '.[demo]'
	@touch $@

demo: $(VENV)/.demo ## the nightly job on real data, into persopredict-demo/
	@$(BIN)/persopredict demo

test: check ## everything that must hold: style, types, imports, tests, doctests, notebooks
	@$(BIN)/python -m pytest -n 2 --dist loadscope

check: $(VENV)/.dev ## style, types, the direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

quick: $(VENV)/.dev ## the tests without notebooks and real data
	@$(BIN)/python -m pytest -n 2 --dist loadscope -m "not journey and not notebook"

docs: $(VENV)/.dev ## the documentation as a site, into site/; a warning is an error
	@$(BIN)/sphinx-build --quiet --fail-on-warning --fresh-env --doctree-dir $(VENV)/doctrees --conf-dir docs . site
	@echo "open site/index.html"

quality: $(VENV)/.dev ## how good the predictions are, on real and made logs; DATA=folder of the news clicks
	@$(BIN)/python benchmarks/quality.py $(if $(DATA),--data '$(DATA)')

bench: $(VENV)/.dev ## features against the floor, hand-written rivals and featuretools; 50 million events; the nightly job's time
	@$(BIN)/python benchmarks/features.py
	@$(BIN)/python benchmarks/speed.py

bench-affinity: $(VENV)/.dev ## affinity against simple rules, planted tastes and the clock
	@$(BIN)/python benchmarks/affinity.py

bench-reasons: $(VENV)/.dev ## contributions of 300,000 customers against LightGBM, shap and woodelf-explainer
	@$(BIN)/python benchmarks/reasons.py

bench-night: $(VENV)/.dev ## two nights of a million customers and 50 million events, step by step
	@$(BIN)/python benchmarks/night.py

soak: $(VENV)/.dev ## kill -9 at many moments of the job
	@$(BIN)/python benchmarks/soak.py

clean: ## remove what make made
	@rm -rf $(VENV) persopredict-demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
