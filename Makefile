# Four verbs: demo, test, check, bench. Each makes what it needs; nothing has to be set up before.
#   make demo    train on real digits, export with proof, generate, measure    (2 to 4 minutes after the installs: 2 GB with torch
#                for the CPU, where there is no NVIDIA GPU and a CPU build can be found, else 6 GB)
#   make test    the test suite
#   make test-fast   the part of it that is quick and enters every package: before each commit
#   make test-long   the tests that take ten seconds or more each: before a release, and in the workflow
#   make test-runtime   the core and the runtime in an environment without torch, as an application has them
#   make check   ruff + mypy + import-linter + the test suite: what CI runs
#   make coverage   the test suite, and which lines of the packages it runs
#   make hooks   git hooks: lint before each commit, the fast tests before each push
#   make fuzz    broken files for the readers of files, 60 s each: make fuzz FUZZ_ARGS='contract --seconds 3600'
#   make bench   the project's own CPU records, anew, into benchmarks/results (about 25 minutes on an idle machine)
#   make docs    write docs/cli.md anew from the commands' --help
#   make test-openvino   the tests of a second provider, in an environment with OpenVINO (Linux, Windows)
# PYTHON names the interpreter (3.11 or newer), VENV the environment, PIP_ARGS goes to every pip install.

VENV ?= .venv
SCRIPTS := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
BIN := $(VENV)/$(SCRIPTS)
INSTALLED := $(VENV)/.ganport-installed
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
DEMO := demo
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)
# On Linux, torch without CUDA is a build of its own (2.15.0+cpu), which the usual package index does not have: pip finds it
# where PIP_ARGS or pip's own settings name an index that does, and uv knows one. Elsewhere the usual build is for the CPU.
TORCH := $(shell grep -E '^torch(vision)?==' constraints.txt)

.PHONY: demo test test-fast test-long test-runtime test-openvino check coverage hooks lint fuzz bench docs clean default-model

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: ganport needs Python 3.11 or newer, none was found"; \
		echo "hint: make PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "error: $(PYTHON) cannot make a virtual environment"; \
		echo "hint: install its venv module (Debian: apt install python3-venv)"; exit 2; }
	@if [ "$$(uname -s)" != Linux ]; then torch="torch for the CPU, about 2 GB"; \
	elif nvidia-smi -L >/dev/null 2>&1; then torch="torch for CUDA, about 6 GB"; \
	elif echo "no NVIDIA GPU found: looking for a CPU build of torch" && \
		{ $(PIP) -c constraints.txt $(TORCH:=+cpu) || uv pip install --quiet --python $(BIN)/python --torch-backend cpu $(TORCH); } \
		>/dev/null 2>&1; then torch="torch for the CPU, about 2 GB"; \
	else torch="torch for CUDA, about 6 GB: pip finds no CPU build, and there is no uv to find one (README.md, Install)"; fi; \
	echo "installing ganport and its tools into $(VENV), with $$torch"
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(INSTALLED)
	@rm -rf $(DEMO)
	$(BIN)/gan-train --data digits --width 16 --steps 3000 --out $(DEMO)/run
	$(BIN)/gan-export onnx --ckpt $(DEMO)/run/g.pt --out $(DEMO)/digits.onnx
	$(BIN)/gan-export torchscript --ckpt $(DEMO)/run/g.pt --out $(DEMO)/digits.ts
	$(BIN)/gan-gen --model $(DEMO)/digits.onnx --n 25 --out $(DEMO)/digits.png
	$(BIN)/gan-gen --model $(DEMO)/digits.onnx --selftest
	$(BIN)/gan-bench $(DEMO)/digits.onnx --batch 1,8,25
	@echo
	@echo "look at $(DEMO)/digits.png; the run is in $(DEMO)/run, the models are $(DEMO)/digits.onnx and $(DEMO)/digits.ts"

# A worker runs whole files, in the order of tests/conftest.py: files marked slow first, so that the workers end together. One
# worker more than there are cores, since tests wait for their processes; no more than four.
WORKERS ?= $(shell $(BIN)/python -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')
PYTEST := $(BIN)/python -m pytest --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

test: $(INSTALLED)
	$(PYTEST) -n $(WORKERS) -m 'not long'

test-long: $(INSTALLED)
	$(PYTEST) -n $(WORKERS) -m long

test-fast: $(INSTALLED)
	$(PYTEST) -n 2 -m 'not slow and not long'

RUNTIME_VENV ?= .venv-runtime
$(RUNTIME_VENV)/.ganport-installed: BIN = $(RUNTIME_VENV)/$(SCRIPTS)
$(RUNTIME_VENV)/.ganport-installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RUNTIME_VENV)
	$(PIP) -c constraints.txt -e '.[cpu]' onnx pytest
	@touch $@

test-runtime: $(RUNTIME_VENV)/.ganport-installed
	$(RUNTIME_VENV)/$(SCRIPTS)/python -m pytest tests/core tests/serve

# onnxruntime-openvino and onnxruntime own the same module: it needs an environment of its own.
OPENVINO_VENV ?= .venv-openvino
$(OPENVINO_VENV)/.ganport-installed: BIN = $(OPENVINO_VENV)/$(SCRIPTS)
$(OPENVINO_VENV)/.ganport-installed: pyproject.toml
	$(PYTHON) -m venv $(OPENVINO_VENV)
	$(PIP) 'onnxruntime-openvino>=1.24' openvino numpy pillow typer onnx pytest
	$(PIP) --no-deps -e .
	@touch $@

test-openvino: $(OPENVINO_VENV)/.ganport-installed
	$(OPENVINO_VENV)/bin/python -m pytest tests/serve/test_openvino_real.py

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# Lines that only run in processes which tests start are not seen.
coverage: $(INSTALLED)
	$(PYTEST) -n $(WORKERS) -m 'not long' --cov --cov-report term:skip-covered

hooks: $(INSTALLED)
	$(BIN)/pre-commit install

# What each target does stands in tests/fuzz; what it finds is left in tests/fuzz/found.
fuzz: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python -m fuzz $(FUZZ_ARGS)

# More checkpoints: make bench BENCH_ARGS='--also other.pt'. A first try: BENCH_ARGS='--quick --out /tmp/try'.
bench: $(INSTALLED)
	$(BIN)/python -m lab.own --out benchmarks/results $(BENCH_ARGS)

# The generator that comes with ganport, from a run's g.pt: file, record and card (docs/models.md). SHIP_ARGS goes along.
default-model: $(INSTALLED)
	@test -n "$(CKPT)" || { echo "error: which checkpoint?"; echo "hint: make default-model CKPT=runs/NAME/g.pt"; exit 2; }
	$(BIN)/python -m lab.ship --ckpt '$(CKPT)' --out serve_cli/gan_serve/models/fashion-mnist.onnx \
		--json benchmarks/results/default-model.json --card docs/models.md $(SHIP_ARGS)

docs: $(INSTALLED)
	$(BIN)/python docs/make_cli.py

clean:
	rm -rf $(VENV) $(OPENVINO_VENV) $(RUNTIME_VENV) $(DEMO) runs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
