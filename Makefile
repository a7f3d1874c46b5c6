# make train: set up and train on the demo data.  make test: the whole test suite.  make help: all targets.
PYTHON ?= python3
ARGS ?=
PHOTOS ?= datasets/catsdogs
FILMS ?= datasets/xray
WEIGHTS ?= weights
VENV := .venv
BIN := $(VENV)/bin
# Compiled once here, since some machines forbid Python to keep what it compiles, and then each start takes seconds longer.
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help train test lint pytest long docs fuzz soak reproduce bench bench-transfer bench-engine bench-peers gallery coverage mutation preprocessing constraints clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

train: $(VENV)/ready  ## Set up, then train on the demo data (ARGS="model=cnn5 seed=2" changes settings)
	$(BIN)/python train.py $(ARGS)

test: lint pytest  ## Lint, types, layering and the whole test suite

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

pytest: $(VENV)/ready-dev
	$(BIN)/pytest $(ARGS)

long: $(VENV)/ready-dev  ## The tests that make test leaves out, since each takes ten to thirty seconds
	$(BIN)/pytest -m long $(ARGS)

fuzz: $(VENV)/ready-dev  ## Break 20,000 images and decode them (ARGS="--inputs 20000 --seed 1 --table")
	$(BIN)/python -m experiments.reliability.fuzz $(ARGS)

soak: $(VENV)/ready-dev  ## Kill random runs, sweeps and cache builds and resume them (ARGS="--minutes 10 --seed 1 --table")
	$(BIN)/python -m experiments.reliability.soak $(ARGS)

docs: $(VENV)/ready  ## Build the guides and the reference into site/
	$(UV) --editable '.[docs]'
	$(BIN)/mkdocs build --strict

reproduce: $(VENV)/ready  ## Run every published system (PHOTOS=DIR FILMS=DIR ARGS="--seeds 1,2,3 --weights DIR")
	$(BIN)/python experiments/published/reproduce.py --photos $(PHOTOS) --films $(FILMS) $(ARGS)

gallery: $(VENV)/ready-dev  ## Build a sweep, its reports and their screenshots from the demo data into gallery/
	$(BIN)/python experiments/gallery/build.py $(ARGS)

bench: $(VENV)/ready  ## Speed against what people write (PHOTOS=DIR FILMS=DIR WEIGHTS=DIR ARGS="--only decode,epochs")
	$(BIN)/python -m experiments.speed.bench --photos $(PHOTOS) --films $(FILMS) --weights $(WEIGHTS) $(ARGS)

bench-transfer: $(VENV)/ready  ## What caching frozen layers saves (PHOTOS=DIR WEIGHTS=DIR ARGS="--epochs-of-plain 10")
	$(BIN)/python -m experiments.transfer.bench --photos $(PHOTOS) --weights $(WEIGHTS) $(ARGS)

bench-engine: $(VENV)/ready  ## The inference engine against OpenVINO, ONNX Runtime and others (PHOTOS=DIR WEIGHTS=DIR)
	$(BIN)/python -m experiments.engine.bench --photos $(PHOTOS) --weights $(WEIGHTS) $(ARGS)

bench-peers: $(VENV)/ready  ## Whole commands against fastai and others (PHOTOS=DIR FILMS=DIR WEIGHTS=DIR ARGS="--only fastai")
	$(BIN)/python -m experiments.peers.bench --photos $(PHOTOS) --films $(FILMS) --weights $(WEIGHTS) $(ARGS)

coverage: $(VENV)/ready  ## How often each interval holds the truth and each test accuses equal models (ARGS="--sets 300")
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.coverage.study $(ARGS)

preprocessing: $(VENV)/ready  ## Pixels and logits against torchvision's own transforms (PHOTOS=DIR ARGS="--largest 10")
	$(BIN)/python -m experiments.preprocessing.agreement $(PHOTOS) $(ARGS)

mutation: $(VENV)/ready-dev  ## Put faults into the code, one at a time: do the tests notice? (ARGS="--mutants 180 --seed 1")
	OMP_NUM_THREADS=1 PYTHONPATH=src $(BIN)/python -m experiments.mutation.study $(ARGS)

constraints: $(VENV)/ready  ## Pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --all-extras --no-annotate --no-header --no-emit-index-url pyproject.toml > constraints.new
	(head -1 constraints.txt; cat constraints.new) > constraints.both && mv constraints.both constraints.txt && rm constraints.new

clean:  ## Remove the environment and caches (not outputs/)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# The CPU build of PyTorch is a tenth of the size of the plain one; where its index can't be reached, the plain one runs
# on the CPU as well.
$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Raylight needs Python 3.11 or newer; choose one with make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/python -c 'import torchvision' 2>/dev/null \
	  || UV_HTTP_TIMEOUT=10 UV_HTTP_CONNECT_TIMEOUT=5 UV_HTTP_RETRIES=0 $(UV) --no-deps torch torchvision \
	     --default-index https://download.pytorch.org/whl/cpu 2>/dev/null \
	  || echo "PyTorch's own index can't be reached; the plain package index has a larger build that runs here too."
	$(UV) --editable '.[export,labels,sweeper]'
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(UV) --editable '.[dev]'
	@touch $@
