# Two commands from a fresh clone: `make report` and `make test`. Both make .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: report test format bench lock clean

# requirements.lock pins every package; the marker file says that .venv holds them.
$(VENV)/installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
# On all processors, where pip would use one; a few files are written for a later Python.
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m tinylm.fast
	touch $@

report: $(VENV)/installed
	$(BIN)/tinylm report --preset quick

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed
	$(BIN)/python benchmarks/tokenizing.py
	for kind in unigram wordpiece; do $(BIN)/python benchmarks/pieces.py --kind $$kind || exit 1; done
	for shape in first wide long; do $(BIN)/python benchmarks/training.py --shape $$shape || exit 1; done
	$(BIN)/python benchmarks/busy.py
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/removing.py
	$(BIN)/python benchmarks/patching.py
	$(BIN)/python benchmarks/aligning.py
	$(BIN)/python benchmarks/processes.py
	$(BIN)/python benchmarks/startup.py

# Write requirements.lock anew from what pyproject.toml allows today.
lock:
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet ".[dev]" hatchling editables
	head -n 1 requirements.lock > $(VENV)/lock/head
	$(VENV)/lock/bin/pip freeze --exclude tinylm | sed 's/+cpu$$//' | cat $(VENV)/lock/head - > requirements.lock
	rm -rf $(VENV)/lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
