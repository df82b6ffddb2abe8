# Targets make their own virtual environments; PYTHON picks the interpreter (3.10 or later).
PYTHON ?= python3
DEMO_ENV := .venv-demo
DOCS_ENV := .venv-docs
TEST_ENV := .venv-test
# --no-compile: Python compiles what it imports; to compile all that is installed would take a minute.
# RecBole's ray has no wheel for Python 3.12 and later: there RecBole comes first, without its requirements.
RECBOLE = $(shell $(PYTHON) -c 'import sys; print("recbole==1.2.1" if sys.version_info >= (3, 12) else "")')

# Else every process of the tests compiles PyTorch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-env docs mutate clean

demo:
	$(PYTHON) -m venv --clear $(DEMO_ENV)
	$(if $(RECBOLE),$(DEMO_ENV)/bin/python -m pip install --quiet --no-deps $(RECBOLE))
	$(DEMO_ENV)/bin/python -m pip install --quiet --no-compile -e .
	$(DEMO_ENV)/bin/python run_recbole_metarec.py

test: test-env
	OMP_NUM_THREADS=1 $(TEST_ENV)/bin/python -m pytest -n auto --dist worksteal

# The pages as a site, site/index.html. It is built from the sources alone: nothing of the package is installed.
docs:
	$(PYTHON) -m venv --clear $(DOCS_ENV)
	$(DOCS_ENV)/bin/python -m pip install --quiet --no-compile $$(sed -n '/^docs =/,/^$$/{/^    /p}' setup.cfg)
	NO_MKDOCS_2_WARNING=1 $(DOCS_ENV)/bin/mkdocs build --quiet

# Which small faults in the numeric core do its tests not see? tests/mutate.py; about half an hour.
mutate: test-env
	$(TEST_ENV)/bin/python -m pip install --quiet cosmic-ray
	OMP_NUM_THREADS=1 $(TEST_ENV)/bin/python tests/mutate.py

test-env:
	$(PYTHON) -m venv --clear $(TEST_ENV)
	$(if $(RECBOLE),$(TEST_ENV)/bin/python -m pip install --quiet --no-deps $(RECBOLE))
	$(TEST_ENV)/bin/python -m pip install --quiet --no-compile -e '.[test]'

# Runs (saved/) stay: they may have taken hours.
clean:
	rm -rf $(DEMO_ENV) $(TEST_ENV) $(DOCS_ENV) site build dist *.egg-info log log_tensorboard .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
