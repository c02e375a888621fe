# Every target sets up what it needs in .venv by itself; stamp files make a second run quick.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TORCH  := torch==2.13.0
ATHERIS := atheris==3.0.0
PEERS  ?= all

.DEFAULT_GOAL := help
.PHONY: help demo test check bench bench-peers overload soak shadow many-models rollout-errors prediction-log drift-bench drift-streams drift-replay fuzz lock clean

help: ## say what the targets do
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo ## the main job on real data, in under ninety seconds
	$(BIN)/shipway demo

check: $(VENV)/.dev ## format, lint, types, import contracts, unit and docs tests: under a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 tests/unit tests/docs tests/architecture

test: check $(VENV)/.test-tools ## everything
	$(BIN)/pytest -q -n 2 tests/contract tests/integration tests/fuzz
	$(BIN)/pytest -q tests/system

bench: $(VENV)/.dev $(VENV)/.bench-tools prediction-log drift-bench ## measure beside a bare floor and the installed peers; BENCH="--rounds 1" passes options
	$(BIN)/python benchmarks/run.py $(BENCH)

bench-peers: $(VENV)/.dev $(VENV)/.bench-tools ## install the other model servers, or PEERS="mosec mlserver": 5 GB, 6 minutes
	$(BIN)/python benchmarks/environments.py install $(PEERS)

overload: $(VENV)/.dev ## twice the capacity for a minute: accepted in time, the rest refused at once
	$(BIN)/python benchmarks/overload.py

shadow: $(VENV)/.dev ## what callers pay for a shadow of every request, beside none
	$(BIN)/python benchmarks/shadow.py $(SHADOW)

soak: $(VENV)/.dev ## five minutes under load with kills at random: right answers, nothing hangs
	$(BIN)/python benchmarks/soak.py

many-models: $(VENV)/.dev ## 100 models behind one server whose memory holds ten; MANY="--models 20" passes options
	$(BIN)/python benchmarks/many_models.py $(MANY)

rollout-errors: $(VENV)/.dev ## simulate rollouts: how often they decide wrongly, how soon rightly; ERRORS="--runs 200" passes options
	$(BIN)/python benchmarks/rollout_errors.py $(ERRORS)

prediction-log: $(VENV)/.dev ## what the prediction log takes: rows a second, bytes a row, a query; LOG="--segments 4" passes options
	$(BIN)/python benchmarks/prediction_log.py $(LOG)

drift-bench: $(VENV)/.dev ## time and memory of a drift run over ten million predictions; DRIFT="--rows 1000000" passes options
	$(BIN)/python benchmarks/drift.py $(DRIFT)

drift-streams: $(VENV)/.dev ## how soon drift is found in known streams, and how often where there is none
	$(BIN)/python benchmarks/drift_streams.py $(STREAMS)
	$(BIN)/python benchmarks/quality_weeks.py
	$(BIN)/python benchmarks/truth_weeks.py

drift-replay: $(VENV)/.dev ## the same streams as traffic through a real server: what its monitor finds; REPLAY="--write" passes options
	$(BIN)/python benchmarks/drift_replay.py $(REPLAY)

fuzz: $(VENV)/.dev $(VENV)/.fuzz ## bytes of strangers against all that reads them, ten minutes; FUZZ="--seconds 60 --target http1"
	nice $(BIN)/python tests/fuzz/run.py $(FUZZ)

lock: $(VENV)/.uv ## resolve requirements-dev.lock again
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra demo --no-emit-index-url --no-header \
		--no-annotate --output-file requirements-dev.lock

clean: ## remove the environment and everything that tools cached
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .fuzz dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade uv
	touch $@

# The lock pins the demo too; only what shipway[demo] needs is taken from it.
$(VENV)/.demo: $(VENV)/.uv pyproject.toml requirements-dev.lock
	test -e $(VENV)/.dev || $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
		--constraint requirements-dev.lock --editable '.[demo]'
	touch $@

# Plain pip, first, and this version: uv or a newer one brings gigabytes of CUDA.
$(VENV)/.torch: $(VENV)/.uv
	$(BIN)/python -m pip install --quiet $(TORCH)
	touch $@

# Not in the lock: it has wheels for some Pythons of Linux only, and nothing else needs it.
$(VENV)/.fuzz: $(VENV)/.uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(ATHERIS)
	touch $@

# python3-venv: Triton's environment is made from the system's Python.
$(VENV)/.bench-tools:
	command -v wrk && command -v h2load && /usr/bin/python3 -c 'import ensurepip' || \
		{ apt-get update -qq && apt-get install -y -qq wrk nghttp2-client python3-venv; }
	mkdir -p $(@D) && touch $@

# prometheus, with promtool: no package index has a server that tests could start.
$(VENV)/.test-tools:
	command -v prometheus && command -v promtool || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus; }
	mkdir -p $(@D) && touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml requirements-dev.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --requirement requirements-dev.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --editable .
	touch $@
