# Everything happens in .venv; PYTHON may be any Python 3.11 or newer.
PYTHON ?= python3
PIP = .venv/bin/pip install --quiet --constraint constraints.txt

.PHONY: setup demo test slow lint clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "PRISM needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) --editable '.[dedup,train,eval,quantize,report,dev]'
	touch .venv/ready

demo: setup
	.venv/bin/prism demo

test: setup
	.venv/bin/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

slow: setup
	.venv/bin/python -m pytest -m slow

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

clean:
	rm -rf .venv
