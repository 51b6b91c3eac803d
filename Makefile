# Everything a newcomer types. `make demo` and `make test` set up whatever they need by themselves.
PYTHON := .venv/bin/python
LAB := $(PYTHON) -m lvsd.lab run
# The lab's kernel is one processor, which waits for timers half of the time. So the suites run beside each other,
# one more than there are processors.
JOBS := $(shell expr $$(nproc) + 1)
BESIDE := $(MAKE) --no-print-directory --jobs=$(JOBS) --output-sync=target --keep-going
LAB_PARTS := test-lab-1 test-lab-2 test-lab-3 test-lab-4 test-lab-5 test-lab-6
OLDEST := build/oldest

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-unit test-systemd test-lab $(LAB_PARTS) test-oldest lint format bench docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ /' | awk '{printf "  make %-12s ", $$1; $$1=""; print}'

setup:  ## install Debian packages and .venv/
	@./setup.sh

demo: setup  ## the classic cluster on a real IPVS kernel, narrated step by step
	@$(LAB) --timeout 300 -- $(PYTHON) -m lvsd.lab.demo

test: setup  ## all tests, in some twelve minutes
	@echo "eight suites, up to $(JOBS) at a time; each one's output comes when it is over"
	@$(BESIDE) $(LAB_PARTS) test-systemd test-unit

test-unit: setup  ## the tests that need no IPVS kernel
	$(PYTHON) -m pytest -q --ignore=tests/systemd

test-systemd: setup  ## the shipped unit under a real systemd
	$(PYTHON) -m pytest -q tests/systemd

test-lab: setup  ## the tests on a real IPVS kernel, in six boots
	@$(BESIDE) $(LAB_PARTS)

$(LAB_PARTS): test-lab-%: setup
	$(LAB) --timeout 3000 -- $(PYTHON) -m pytest -q -p no:cacheprovider tests/lab --part $*/6

test-oldest: setup  ## the tests without the lab's longer ones, on the oldest packages that pyproject.toml allows
	$(PYTHON) -m venv --clear $(OLDEST)
	sed -n 's/^  "\(.*\)>=\(.*\)",$$/\1==\2/p' pyproject.toml >$(OLDEST)/constraints.txt
	$(OLDEST)/bin/pip install -q -c $(OLDEST)/constraints.txt -e '.[dev]'
	$(OLDEST)/bin/python -m pytest -q
	$(OLDEST)/bin/python -m lvsd.lab run -- $(OLDEST)/bin/python -m pytest -q tests/lab/test_classic.py

lint: setup  ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

format: setup  ## lay the code out
	.venv/bin/ruff format .

bench: setup  ## measure, beside keepalived and ipvsadm in the same run
	$(LAB) --timeout 3000 -- $(PYTHON) -m bench

docs: setup  ## make what is generated in docs/ and etc/ anew
	$(PYTHON) -m lvsd.events_doc >docs/events.md
	.venv/bin/lvsd schema >etc/lvsd.schema.json
	sed -i '/^### Top level/,$$d' docs/configuration.md
	$(PYTHON) -m lvsd.config.reference >>docs/configuration.md

clean:  ## remove what setup and the tools made
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
