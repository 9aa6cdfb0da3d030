# Two commands need nothing but Python >= 3.11 and make: `make quickstart` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

VBENCH       := .venv-vbench
VBENCH_STAMP := $(VBENCH)/.installed
VBENCH_PIP   := $(VBENCH)/bin/python -m pip install --quiet --disable-pip-version-check

TRITON := build/triton

# Rows of the video-exposure board: what continues a given video.
CAUSAL := $(addprefix reference:,causvid diffusion-forcing diffusion-forcing@4 self-forcing-dmd teacher-forcing \
	teacher-forcing@4) oracle:truth oracle:observer truth:codec cheat:frozen cheat:loop cheat:noise

# Rows of the preset `tiny`, ancestors first: those whose weights ship, and the rest.
HEADLINE := codec diffusion-forcing teacher-forcing teacher causvid self-forcing-dmd
ABLATION := tf-dmd self-forcing-sid self-forcing-gan bidirectional-dmd self-forcing-dmd-shared ode causal-ode \
	consistency $(addprefix self-forcing-dmd-from-,ode causal-ode consistency) \
	$(addsuffix -framewise,diffusion-forcing teacher-forcing causvid tf-dmd self-forcing-dmd \
	self-forcing-sid self-forcing-gan)

TRAINED  := runs/train/tiny
ABLATED  := results/boards/ablation

SHELL := bash

.PHONY: help quickstart test unit check-results golden lint reference ablation bench gpu gpu-path gpu-tests \
	gpu-wan gpu-base wheels board vbench-env test-vbench test-flex clean

help:
	@echo "make quickstart   environment, then the long-horizon task on the shipped models, then the tables"
	@echo "make test         environment, then lint, types, tests, and every metric and row checked"
	@echo "make unit         only the quick tests: those that neither train nor drive whole commands"
	@echo "make check-results  compute every committed row and table again, and hold each row to the board's rules"
	@echo "make golden       take the command line and the schema as they are now for right"
	@echo "make reference    train the shipped models again from their recipes (hours)"
	@echo "make ablation     train and run the other rows of the paper's ablation (hours)"
	@echo "make board        run what is missing of the full tier, then rebuild results/ and README's tables"
	@echo "make bench        speed ratios on this machine"
	@echo "make gpu          on a GPU: its tests, Wan2.1's size as a stream, training the preset base (10 minutes)"
	@echo "make gpu-tests, gpu-wan, gpu-base   each of them alone (GPU_PYTHON=..., GPU_MINUTES=...)"
	@echo "make wheels       what an image without network lacks for them, to be carried there"
	@echo "make test-flex    without a GPU: flex attention's kernels as they are compiled for one, interpreted (3 minutes)"
	@echo "make vbench-env   the real VBench in an environment of its own, .venv-vbench (2.3 GB)"
	@echo "make test-vbench  build it, and drive every dimension that can be loaded (10 minutes)"

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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder
	@echo "== sfbench certify: every metric against what it declares, and the committed table =="
	OMP_NUM_THREADS=1 $(BIN)/sfbench certify --check results/certification.json
	@echo "== sfbench verify: every committed row against its records =="
	OMP_NUM_THREADS=1 $(BIN)/sfbench verify results

unit: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m "not slow"

check-results: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/sfbench verify --strict results

golden: $(STAMP)
	$(BIN)/python tests/test_golden_cli.py > tests/golden/cli.txt
	$(BIN)/sfbench schema > results/schema.json

lint: $(STAMP)
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

reference: $(STAMP)
	set -e; for row in $(HEADLINE); do \
		$(BIN)/sfbench train-reference --preset tiny --method $$row --resume --threads 1 --out $(TRAINED); done

ablation: $(STAMP)
	set -e; for row in $(ABLATION); do \
		$(BIN)/sfbench train-reference --preset tiny --method $$row --resume --threads 1 --out $(TRAINED); \
		for task in long-horizon quality; do $(BIN)/sfbench run --task $$task --tier full --threads 1 \
			--model reference:$(TRAINED)/weights/tiny-$$row.safetensors --out $(ABLATED)/runs/$$task; done; \
		cp $(TRAINED)/weights/tiny-$$row.json $(ABLATED)/cards/; done

board: $(STAMP)
	$(BIN)/sfbench run --task all --tier full --threads 1 --out results/runs
	$(BIN)/sfbench run --task video-exposure --tier lite --threads 1 --out results/runs/video-exposure \
		$(CAUSAL:%=--model %)
	$(BIN)/sfbench report $(ABLATED) --among results/runs --format csv,md
	$(BIN)/sfbench report results/runs --out results --embed README.md \
		--headline oracle:truth,teacher-forcing,self-forcing-dmd

bench: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m sfbench.reference.bench
	OMP_NUM_THREADS=1 $(BIN)/python -m sfbench.reference.bench_serving
	OMP_NUM_THREADS=1 $(BIN)/python -m sfbench.tasks.bench
	$(BIN)/python -m sfbench.bench

# With the interpreter whose torch sees the GPU, as an image brings it: nothing is installed into it
# but, where it lacks them, pydantic, diffusers, av and ftfy from WHEELS (`make wheels` where there
# is a network). A folder of links stands for an installation, so that no build tool is needed either.
# All of `make gpu` takes about GPU_MINUTES; each part alone takes as many as it is given.
GPU_PYTHON  ?= $(PYTHON)
GPU_VERSION ?= 3.12
GPU_MINUTES ?= 10
WAN_MINUTES ?= 4
GPU_ARGS    ?=
GPU_PATH    := build/path
WHEELS      ?= wheels
ON_GPU      := PYTHONPATH=$(GPU_PATH) $(GPU_PYTHON)

gpu: gpu-tests gpu-wan
	@$(MAKE) --no-print-directory gpu-base GPU_MINUTES=$$(( $(GPU_MINUTES) - $(WAN_MINUTES) - 2 ))

gpu-path:
	@mkdir -p $(GPU_PATH)/sfbench
	@ln -sfn $(CURDIR)/sfbench/* $(CURDIR)/reference $(CURDIR)/tasks $(GPU_PATH)/sfbench/
	@for package in pydantic diffusers av ftfy; do \
		$(GPU_PYTHON) -c "import $$package" 2>/dev/null || [ ! -d $(WHEELS) ] || \
		$(GPU_PYTHON) -m pip install --quiet --no-index --find-links $(WHEELS) $$package; done

gpu-tests: gpu-path
	@echo "== tests that need a GPU =="
	$(ON_GPU) -m pytest -m gpu $$(grep -l 'mark\.gpu' tests/test_*.py)

gpu-wan: gpu-path
	@echo "== Wan2.1's size as a stream, random weights, about $(WAN_MINUTES) minutes =="
	$(ON_GPU) -m sfbench.reference.gpu_wan --minutes $(WAN_MINUTES)

gpu-base: gpu-path
	@echo "== training the preset base, about $(GPU_MINUTES) minutes =="
	$(ON_GPU) -m sfbench.reference.gpu --minutes $(GPU_MINUTES) $(GPU_ARGS)

wheels:
	@echo "== what a bare GPU image lacks, for Python $(GPU_VERSION), into $(WHEELS)/ =="
	$(PYTHON) -m pip download --quiet --dest $(WHEELS) --no-deps --only-binary=:all: \
		--python-version $(GPU_VERSION) pydantic pydantic-core annotated-types typing-inspection \
		diffusers importlib-metadata av ftfy wcwidth

# torch goes first, or torchvision would pull a CUDA build of it; setuptools 81 lost what clip needs.
$(VBENCH_STAMP):
	@echo "== VBench's own environment in $(VBENCH) (torch first) =="
	$(PYTHON) -m venv $(VBENCH)
	$(VBENCH_PIP) torch==2.13.0
	$(VBENCH_PIP) torch==2.13.0 torchvision==0.28.0 vbench==0.1.5 tqdm einops ftfy 'setuptools<81'
	@touch $(VBENCH_STAMP)

vbench-env: $(VBENCH_STAMP)

test-vbench: $(STAMP) $(VBENCH_STAMP)
	@mkdir -p results/vbench
	set -o pipefail; OMP_NUM_THREADS=1 SFBENCH_VBENCH_PYTHON=$(CURDIR)/$(VBENCH)/bin/python \
		$(BIN)/python -m pytest tests/test_vbench_real.py --no-header -vv -rs -s -p no:cacheprovider \
		--durations=0 --durations-min=1 2>&1 | sed "s#$(CURDIR)/##g" | tee results/vbench/test-vbench.log

# A version that torch 2.13 works with; a GPU image has its own.
test-flex: $(STAMP)
	@[ -d $(TRITON) ] || $(BIN)/python -m pip install --quiet --no-deps --target $(TRITON) triton==3.7.1
	SFBENCH_TRITON=$(CURDIR)/$(TRITON) $(BIN)/python -m pytest tests/test_simulated_gpu.py -k flex -s

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
