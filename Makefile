# make loop      set up and run the main job: the cycle on synthetic faces, 13 minutes on 2 cores
# make london    the same on real photos (see conf/data/london.yaml for where they are looked for)
# make test      set up and run lint, types and tests
# make setup     only set up .venv
# make benchmark one JSON line a figure
PYTHON ?= python3
BIN := .venv/bin

.PHONY: loop london benchmark test setup

loop: setup
	$(BIN)/python scripts/arms_race.py

london: setup
	$(BIN)/python scripts/arms_race.py experiment=london

benchmark: setup
	$(BIN)/python scripts/benchmark.py

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=path/to/python3.11" >&2; exit 1; }
	@echo "Setting up .venv: some minutes, several GB."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev,external,footage,onnx,provenance,ray,slurm,tensorboard,wandb]'
	@touch $@
