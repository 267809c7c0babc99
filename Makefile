# Everything starts here; each target sets up .venv by itself.
# Needs Python 3.11 to 3.13, pip, git, make and a network to the package index; after set-up, none.

# The first of these that runs and is one of the three; `make PYTHON=/path/to/python` names another.
SUITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for each in python3.11 python3.12 python3.13 python3 python; do \
	$$each -c '$(SUITS)' 2>/dev/null && { echo $$each; break; }; done)
UV := uv==0.13.9
BIN := .venv/bin
READY := .venv/.ready

export DO_NOT_TRACK := true
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup repro test test-commands coverage test-crate test-cluster test-hosts test-portable test-kills \
	test-reliability fuzz test-long mutants lint audit lock image docs architecture screenshots bench bench-scale bench-sweep

help:
	@echo "make setup   install what requirements.lock names into .venv"
	@echo "make repro   train, evaluate, plot and report the profile in params.yaml; a second run does nothing"
	@echo "make test    run the tests, but the longest"
	@echo "make test-commands   run those: the pages' commands to the letter, whole sweeps and trainings"
	@echo "make coverage   the same, and which lines of gaitprop and pipeline they ran: build/coverage/html"
	@echo "make test-cluster   sweep on a Ray cluster of processes, some of which are killed"
	@echo "make test-hosts   sweep on hosts whose lines are cut and whose power fails (needs root)"
	@echo "make test-crate     have the published validator look at what gait export writes (needs a network)"
	@echo "make test-portable  train on processors that qemu plays: every bit must be the same"
	@echo "make test-kills     kill trainings at random moments; they must end as if nothing had been"
	@echo "make test-reliability   make runs again; fill disks, take servers away"
	@echo "make fuzz    wrong params and wrong words by the thousand: one sentence, exit code 2"
	@echo "make test-long   test-commands, -cluster, -hosts, -kills, -reliability, -portable and fuzz, into results/tests.json"
	@echo "make mutants break the code one place at a time; the tests must notice"
	@echo "make lint    check style, types and the Dockerfile, and look for secrets"
	@echo "make audit   ask PyPI for known faults of the pinned dependencies"
	@echo "make image   build the container image gait, for head, workers and pipeline"
	@echo "make docs    make the library's reference of its docstrings, in build/docs, and docs/params.md"
	@echo "make architecture   draw which folder imports from which, for docs/architecture.md"
	@echo "make screenshots   of MLflow's pages, for docs/mlflow.md; after make repro, with Chromium"
	@echo "make bench   measure what a training step and an epoch cost; docs/performance.md shows it"
	@echo "make bench-scale   measure a million images, 10,000 epochs, a thousand trials"
	@echo "make bench-sweep   measure what Ray and MLflow add to a sweep on this machine"
	@echo "make lock    resolve requirements.lock anew from pyproject.toml"

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(or $(PYTHON),false) -c '$(SUITS)' || { echo "make: received $(or $(PYTHON),no Python);" \
		"allowed: Python 3.11 to 3.13; name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@echo "setting up .venv, a minute or two" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# DVC looks for git unless told otherwise; a source archive has none.
repro: $(READY)
	@test -e .git || dvc config --local core.no_scm true
	gait repro

# A file's tests stay together, since they share what is slow to make.
TESTS := --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	--ignore=tests/cluster --ignore=tests/hosts --ignore=tests/reliability
test: $(READY)
	OMP_NUM_THREADS=1 python -m pytest $(TESTS) -m "not long"

# A quarter of an hour more, which nobody waits for at every change.
test-commands: $(READY)
	OMP_NUM_THREADS=1 python -m pytest $(TESTS) -m long

# Reported, not demanded; coverage.py is no dependency. `make coverage TESTS=tests/gaitprop` runs these alone.
coverage: export COVERAGE_FILE := $(CURDIR)/build/coverage/data
coverage: $(READY)
	uv pip install --quiet --python $(BIN)/python coverage==7.17.4
	rm -rf build/coverage
	-OMP_NUM_THREADS=1 python -m coverage run -m pytest $(TESTS)
	python -m coverage combine --quiet
	python -m coverage html --quiet --directory build/coverage/html
	python -m coverage report

# The validator's rich is not the pipeline's: it has an environment of its own.
test-crate: $(READY)
	uv tool install --quiet roc-validator==0.13.0
	PATH="$(PATH):$$(uv tool dir --bin)" GAIT_TEST_CRATE=required python -m pytest tests/pipeline/audit/test_export_crate.py

# Ray nodes and an MLflow server on loopback; some of them get killed.
test-cluster: $(READY)
	python -m pytest tests/cluster

# Network namespaces as hosts: root, Linux; elsewhere one sentence says what is lacking.
test-hosts: $(READY)
	python -m pytest -rs tests/hosts --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Four processors of two makes, by qemu-user: some fifty times as slow as this one.
test-portable: $(READY)
	GAIT_TEST_PORTABLE=all GAIT_TEST_QEMU=required OMP_NUM_THREADS=1 \
		python -m pytest tests/portable --numprocesses 2

# Half a hundred kills, seeded: GAIT_KILLS_SEED=7 make test-kills draws other moments.
test-kills: $(READY)
	OMP_NUM_THREADS=1 python -m pytest -s tests/reliability/test_kills.py

# Runs made again, disks that are full, servers that are away.
test-reliability: $(READY)
	OMP_NUM_THREADS=1 python -m pytest tests/reliability --ignore=tests/reliability/test_kills.py

# Each of the tests draws so many cases: 2,400 in all.
fuzz: $(READY)
	GAIT_FUZZ_CASES=600 OMP_NUM_THREADS=1 python -m pytest tests/pipeline/cli/test_fuzz.py

# One that fails does not keep the others from running.
test-long: $(READY)
	python -m tests.long results/tests.json test-commands test-cluster test-hosts test-kills test-reliability test-portable fuzz

mutants: $(READY)
	OMP_NUM_THREADS=1 python -m tests.mutations

lint: $(READY)
	ruff check .
	ruff format --check .
	mypy
	hadolint Dockerfile
	git ls-files -- ':!results' ':!*.lock' ':!tests/portable/bits.json' | xargs detect-secrets-hook \
		--exclude-lines '_SAMPLE = '

# What could not be asked about is a failure too.
audit: $(READY)
	uv tool run pip-audit==2.9.0 --strict --disable-pip --require-hashes -r requirements.lock

# The commit goes into the image, since its history does not.
image:
	docker build --tag gait --build-arg COMMIT=$$(git rev-parse HEAD) .

docs: $(READY)
	gait params > docs/params.md
	gait params --schema > params.schema.json
	pdoc --docformat google --output-directory build/docs gaitprop $(addprefix gaitprop., \
		activations diagnostics gradients layers losses network nn numerics regularizer rules theorem training)

architecture: $(READY)
	python -m tests.pipeline.architecture_picture docs/images/architecture.svg

screenshots: $(READY)
	GAIT_TEST_BROWSER=required GAIT_SCREENSHOTS=docs/images python -m pytest tests/browser/test_mlflow_ui.py

# On a machine that does nothing else. `benchmarks.steps` needs torch alone.
bench: $(READY)
	python -m benchmarks.steps results/performance/cpu.json
	python -m benchmarks.steps results/performance/cpu-digits.json --digits --threads 1
	python -m benchmarks.rules results/performance/cpu-rules.json
	python -m benchmarks.epoch results/performance/cpu-epoch.json
	python -m benchmarks.portable results/performance/cpu-portable.json --threads 1
	python -m benchmarks.repro results/performance/cpu-repro.json
	python -m benchmarks.report $(addprefix results/performance/,\
		cpu.json cpu-digits.json cpu-rules.json cpu-epoch.json cpu-portable.json cpu-repro.json)

bench-scale: $(READY)
	OMP_NUM_THREADS=1 python -m benchmarks.scale results/performance/cpu-scale.json
	python -m benchmarks.report results/performance/cpu-scale.json

bench-sweep: $(READY)
	OMP_NUM_THREADS=1 python benchmarks/sweep_overhead.py

lock: $(READY)
	uv pip compile --quiet --upgrade --generate-hashes --universal --fork-strategy fewest --python-version 3.11 --all-extras \
		--no-annotate --no-header pyproject.toml --output-file requirements.lock
