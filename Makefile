# The whole project in a few verbs. Each target does its own set-up; a second run installs nothing.
#   make demo SEED=1               another seed
#   make test ARGS="-k twin -x"    arguments for pytest
#   make test VENV=/path           an environment that exists already, used as it is
#   make install PYTHON3=python3.10 EXTRAS=dev   without the robot side

VENV    ?= .venv
EXTRAS  ?= dev,ros,can,bags,cameras,view
PYTHON3 ?=
SEED    ?= 0
JOBS    ?= 2
ARGS    ?=

PYTHON  := $(abspath $(VENV))/bin/python
SOURCES := ros2_ws/src tests

# Lets an environment without the editable install find the packages, in child processes too.
empty :=
export PYTHONPATH := $(subst $(empty) ,:,$(strip $(foreach package,vla_policy piper_twin vla_rl_trainer piper_bringup,$(CURDIR)/ros2_ws/src/$(package))))$(if $(PYTHONPATH),:$(PYTHONPATH))

.DEFAULT_GOAL := help
.PHONY: help install format check test demo bench bench-ros test-libero bench-libero sim emulated record-demo fuzz-guard fault-matrix clean

help: ## this list
	@sed -n 's/^\([a-z-]*\): .*## /\1 /p' $(MAKEFILE_LIST) | while read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

install: ## virtual environment, packages and off-screen OpenGL; every other target does this first
	@.ci/setup "$(VENV)" "$(EXTRAS)" "$(PYTHON3)"

format: install ## sort imports and lay out the code
	$(PYTHON) -m ruff check --select I --fix --quiet $(SOURCES)
	$(PYTHON) -m ruff format $(SOURCES)

check: install ## formatting, lint and types, changing nothing
	@wrong=0; \
	$(PYTHON) -m ruff format --check $(SOURCES) || wrong=1; \
	$(PYTHON) -m ruff check $(SOURCES) || wrong=1; \
	$(PYTHON) -m pyright --pythonpath $(PYTHON) || wrong=1; \
	exit $$wrong

test: install ## the tests; ARGS="-k name" picks some
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

demo: install ## train a policy by GRPO on the twin, report in runs/demo/report.html; SEED=1 for another run
	$(PYTHON) -m vla_rl_trainer.demo --seed $(SEED) --out runs/demo $(ARGS)

bench: install ## measure simulation, policy and learner, figures in runs/bench/summary.json
	$(PYTHON) -m vla_rl_trainer.bench --out runs/bench $(ARGS)

bench-ros: install ## measure the robot's ROS graph: jitter, overhead, recorder; runs/bench-ros/summary.json
	$(PYTHON) -m piper_bringup.ros.bench --out runs/bench-ros $(ARGS)

test-libero: install ## LIBERO held against the benchmark's own code; assets from LIBERO_ASSETS or ../shared/libero
	@.ci/setup-libero "$(VENV)"
	LIBERO_ASSETS=$$(.ci/libero-assets) OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m libero -n $(JOBS) --dist loadfile tests/libero $(ARGS)

bench-libero: install ## LIBERO's speed here, beside the benchmark's own; figures in runs/bench-libero/summary.json
	@.ci/setup-libero "$(VENV)"
	LIBERO_ASSETS=$$(.ci/libero-assets) $(PYTHON) -m vla_rl_trainer.libero.bench --out runs/bench-libero $(ARGS)

sim: install ## the twin in the robot's ROS graph, with a page on http://127.0.0.1:8080
	$(PYTHON) -m piper_bringup.start sim autostart:=true $(ARGS)

emulated: install ## a trained policy on emulated arms: ARGS="checkpoint:=FOLDER", figures in runs/emulated/summary.json
	$(PYTHON) -m piper_bringup.start evaluate where:=real emulate:=true out:=runs/emulated $(ARGS)

record-demo: install ## record the expert through ROS, import, fine-tune, evaluate; runs/record-demo/summary.json
	$(PYTHON) -m vla_rl_trainer.record_demo --seed $(SEED) --out runs/record-demo $(ARGS)

fuzz-guard: install ## a million chunks against the guard, figures in runs/fuzz-guard/summary.json
	$(PYTHON) -m piper_bringup.fuzz --out runs/fuzz-guard $(ARGS)

fault-matrix: install ## every fault on emulated arms while they move, figures in runs/fault-matrix/summary.json
	$(PYTHON) -m piper_bringup.fault_matrix --out runs/fault-matrix $(ARGS)

clean: ## remove the environment, build products and caches; runs/ stays
	@if [ -e "$(VENV)/.vla-piper" ]; then rm -rf "$(VENV)"; fi
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis ros2_ws/build ros2_ws/install ros2_ws/log
	find . -path ./.git -prune -o -path ./runs -prune -o \( -name __pycache__ -o -name '*.egg-info' \) -print | xargs -r rm -rf
