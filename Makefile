# Needs git, make and Python 3.11 or newer; everything else goes into .venv.
# Another Python: make PYTHON=python3.12 ...

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCH_INSTALLED := .venv/.installed-bench
AUDIT_INSTALLED := build/audit/.installed
INSTALL := install --quiet --disable-pip-version-check
# In quotes wherever it is used: the project may lie in a folder with spaces.
DAGSTER_HOME := $(CURDIR)/.dagster
# Where `make dev` serves the UI, on the loopback interface: it has no login.
PORT ?= 3000
# Share of the log files that `make bench` measures; less than 1 only shows that it works.
SCALE ?= 1
# How long `make torture`, `make fuzz` and `make long-run` go on, and what they do; without a seed,
# something new each time.
MINUTES ?=
SEED ?=
# Where the ledgers of `make torture` are: sqlite or postgres.
LEDGER ?= sqlite
# Where `make long-run` draws what it measured.
PLOT ?= build/long-run.svg

.DEFAULT_GOAL := help
.PHONY: help demo dev test test-thorough test-all test-ui torture fuzz long-run check audit bench bench-memory constraints clean .venv

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

demo: $(INSTALLED) | sample .dagster/dagster.yaml ## Sync the sample bucket; no AWS account needed
	@if [ -n "$$CTRAIL_CONFIG" ] || [ -e config.json ]; then \
		echo 'The demo is for the sample bucket, but config.json or CTRAIL_CONFIG names your trails.'; \
		echo 'Sync those: DAGSTER_HOME="$(DAGSTER_HOME)" $(BIN)/dagster job execute -m ctrail_pipeline.definitions -j sync'; \
		exit 2; \
	fi
	DAGSTER_HOME="$(DAGSTER_HOME)" $(BIN)/dagster job execute -m ctrail_pipeline.definitions -j sync
	@echo
	@echo "Events:    $$(find events -name '*.jsonl' -exec cat {} + | wc -l) in $$(find events -name '*.jsonl' | wc -l) files under ./events, from $$(find sample -path '*/CloudTrail/*' -name '*.json.gz' | wc -l) log files in ./sample; what was unreadable is in ./quarantine"
	@echo "Look:      head -qn 1 \$$(find events -name '*.jsonl' | head -n 1) | $(BIN)/python -m json.tool"
	@echo "History:   make dev   then open http://127.0.0.1:$(PORT)"

# Whoever starts make in the background makes it ignore SIGINT, which all below it inherit; Dagster
# then hears SIGTERM no more either. So it starts with the default handlers, in place of the shell.
with_default_signals := import os, signal, sys; \
	[signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)]; \
	os.execv(sys.argv[1], sys.argv[1:])

dev: $(INSTALLED) | .dagster/dagster.yaml ## Start the web UI and the daemon, for your trails or the sample
	@if [ -z "$$CTRAIL_CONFIG" ] && [ ! -e config.json ]; then $(MAKE) --no-print-directory sample; fi
	@echo 'Looking for accounts and regions:'
	@DAGSTER_HOME="$(DAGSTER_HOME)" $(BIN)/dagster job execute -m ctrail_pipeline.definitions -j discover \
		|| echo 'Not all could be found; the UI starts with those that were.'
	@echo
	@echo 'Open http://127.0.0.1:$(PORT) when it says "Serving"; stop it with Ctrl-C. Of $(DAGSTER_HOME),'
	@echo 'ignore the warning about dagster.yaml: it is linked there.'
	@DAGSTER_HOME="$(DAGSTER_HOME)" exec $(BIN)/python -c '$(with_default_signals)' \
		$(BIN)/dagster dev --host 127.0.0.1 --port '$(PORT)'

test: $(INSTALLED) ## Run the fast tests, the same in each run
	scripts/test

test-thorough: $(BENCH_INSTALLED) ## Run what `make test` leaves out: random kills, memory, a real daemon
	scripts/test -n auto --dist worksteal -m thorough

test-all: test test-thorough ## Run all tests, three minutes of torture, and the UI if Chromium is there
	$(MAKE) --no-print-directory torture MINUTES='$(or $(MINUTES),3)'
	@if command -v chromium > /dev/null && command -v chromedriver > /dev/null; \
		then $(MAKE) --no-print-directory test-ui; \
		else echo 'SKIPPED: make test-ui, as there is no chromium with its chromedriver'; fi

test-ui: $(INSTALLED) ## Drive the web UI in headless Chromium; CTRAIL_SCREENSHOTS=docs takes pictures
	@for program in chromium chromedriver; do \
		command -v $$program > /dev/null && continue; \
		echo "No $$program; on Debian: apt-get install chromium chromium-driver"; exit 2; \
	done
	scripts/test ctrail_pipeline_tests/ui

torture: $(INSTALLED) ## Kill, cut off and fill up for MINUTES=10, then compare: docs/torture.md
	$(BIN)/python -m ctrail_pipeline_tests.torture --minutes '$(or $(MINUTES),10)' \
		--ledger '$(LEDGER)' $(if $(SEED),--seed '$(SEED)')

fuzz: $(INSTALLED) ## Hostile log files, made up for MINUTES=10: docs/hostile-input.md
	$(BIN)/python -m ctrail_pipeline_tests.fuzz --minutes '$(or $(MINUTES),10)' \
		$(if $(SEED),--seed '$(SEED)')

long-run: $(INSTALLED) ## Steady state for MINUTES=30: does anything grow? docs/torture.md
	$(BIN)/python -m ctrail_pipeline_tests.torture.long_run --minutes '$(or $(MINUTES),30)' \
		$(if $(SEED),--seed '$(SEED)') --plot '$(PLOT)'

check: $(INSTALLED) ## Check format, lint, types, and that dependencies agree
	scripts/check

# A package that the database does not know, or cannot be asked about, is an error, not a pass.
audit: $(AUDIT_INSTALLED) ## Ask the Python advisory database for holes in what constraints.txt pins
	build/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

$(AUDIT_INSTALLED):
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip $(INSTALL) 'pip-audit>=2.10'
	@touch $@

bench: $(BENCH_INSTALLED) ## Measure what a sync costs, 20 to 40 minutes: benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks --scale '$(SCALE)'

bench-memory: $(BENCH_INSTALLED) ## Measure the memory that the largest inputs take, 10 minutes: benchmarks/MEMORY.md
	$(BIN)/python -m benchmarks --only memory --rounds 1 --scale '$(SCALE)' \
	  $(if $(filter 1,$(SCALE)),--results benchmarks/MEMORY.md)

sample: | $(INSTALLED) ## Write the sample bucket, if it is not there
	$(BIN)/python -m ctrail_pipeline.sample sample

.venv: $(INSTALLED) ## Create or update the virtual environment

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip $(INSTALL) --no-compile -c constraints.txt -e '.[ui,dev]'
	@# pip would compile on one CPU, which takes 30 s.
	$(BIN)/python -m compileall -qq -j 0 .venv/lib
	@touch $@

$(BENCH_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip $(INSTALL) -c constraints.txt -e '.[ui,dev,bench]'
	@touch $@

# Dagster reads its instance's settings from DAGSTER_HOME only.
.dagster/dagster.yaml:
	mkdir -p .dagster
	ln -s ../dagster.yaml $@

constraints: ## Renew constraints.txt with the newest releases
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip $(INSTALL) -e '.[ui,dev,bench]'
	build/constraints/bin/python -m pip freeze --exclude-editable > build/constraints.txt
	{ echo '# Every package of a full install, pinned; renew with: make constraints'; \
		LC_ALL=C sort -f build/constraints.txt; } > constraints.txt
	rm -rf build

clean: ## Remove what make made; events, ledger and config.json stay
	rm -rf .venv .dagster sample build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
