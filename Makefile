# Two commands need nothing but Python >= 3.11 and make: `make quickstart` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help quickstart test lint reference bench gpu board clean

help:
	@echo "make quickstart   environment, then the long-horizon task on the shipped models, then the tables"
	@echo "make test         environment, then lint, types and tests"
	@echo "make reference    train the shipped models again from their recipes (hours)"
	@echo "make board        run what is missing of the full tier, then rebuild results/ and README's table"
	@echo "make bench        speed ratios on this machine"
	@echo "make gpu          tests that need a CUDA device"

$(STAMP): pyproject.toml constraints.txt
	@echo "== environment in $(VENV) (torch first, so that nothing pulls a CUDA build) =="
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

quickstart: $(STAMP)
	@echo "== sfbench run: long-horizon, smoke tier, every shipped model, cheat and reference row =="
	$(BIN)/sfbench run --task long-horizon --tier smoke --out runs/quickstart
	@echo "== tables and pictures =="
	$(BIN)/sfbench report runs/quickstart

test: $(STAMP)
	@echo "== ruff =="
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "== mypy --strict =="
	$(BIN)/mypy sfbench tasks reference
	@echo "== pytest =="
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

reference: $(STAMP)
	$(BIN)/sfbench train-reference --preset tiny --method all --resume --out runs/train/tiny

board: $(STAMP)
	$(BIN)/sfbench run --task long-horizon --tier full --out results/runs/long-horizon
	$(BIN)/sfbench report results/runs --out results --embed README.md \
		--headline oracle:truth,teacher-forcing,self-forcing-dmd

bench: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m sfbench.reference.bench
	OMP_NUM_THREADS=1 $(BIN)/python -m sfbench.tasks.bench

gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
