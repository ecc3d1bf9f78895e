# espnet_blora: `make help` lists what there is. Every target that needs the environment sets it up first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# How big the demo is: full (the shipped defaults), ci (minutes, for checks).
SCALE ?= full
# Where make accelerator runs: cuda, cpu.
DEVICE ?= cuda
# Extra arguments: make test ARGS="-k adapters -x"
ARGS ?=

# The tests of a module stay in one process, for they share fixtures; ARGS="-n 0" runs all in one. The slowest are told.
parallel := -n auto --maxprocesses 8 --dist loadscope --no-loadscope-reorder --durations 20

activate := . tools/activate_python.sh && . tools/extra_path.sh

.PHONY: help env sclite demo test test-unit lint docs format bench accelerator clean distclean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-11s %s\n", $$1, $$2 }'
	@echo "  options: PYTHON=/path/to/python3.12  ESPNET_ROOT=/path/to/espnet  SCALE=full|ci  DEVICE=cuda|cpu  ARGS='pytest options'"

env: ## set up tools/venv, ESPnet's template and sclite (again: seconds)
	@bash tools/setup.sh

sclite: ## try again to get sclite
	@bash tools/setup_sclite.sh --retry

demo: env ## adapt a small Whisper with lora, blora and lora_keep, repair lora; report what was gained and forgotten
	@$(activate) && cd egs2/mini_noisy/asr1 && SCALE='$(SCALE)' exec python3 local/demo.py

test: env ## run all tests, unit tests first
	@$(activate) && exec python3 -m pytest $(parallel) $(ARGS)

test-unit: env ## run the unit tests only
	@$(activate) && exec python3 -m pytest $(parallel) -m "not integration" $(ARGS)

lint: env ## check style, shell scripts, imports, types and file sizes
	@$(activate) && exec bash tools/lint.sh

docs: env ## build the documentation into docs/_build/html; a warning is an error
	@$(activate) && python3 -m sphinx -q -W --keep-going -n -j auto docs docs/_build/html \
	    && echo "open docs/_build/html/index.html"

format: env ## rewrite the Python files in the project's style
	@$(activate) && ruff check --fix . && ruff format .

bench: env ## print the benchmark tables that take minutes (the others: benchmarks/README.md)
	@$(activate) && for name in adapter_step adapter_family memory prepare score damage; do \
	    python3 "benchmarks/$$name.py" || exit; done

accelerator: env ## run what CI cannot, on a GPU (DEVICE=cpu: what can without), into benchmarks/accelerator/
	@$(activate) && exec python3 benchmarks/accelerator.py --device '$(DEVICE)' $(ARGS)

clean: ## remove caches and build leftovers (data, exp and the environment stay)
	@rm -rf build dist ./*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find espnet_blora tests benchmarks egs2 -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## also remove what `make env` made
	@rm -rf tools/venv tools/.envs tools/espnet tools/sctk tools/.sclite_missing tools/.setup.lock
