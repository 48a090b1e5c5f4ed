# make chat: install, fetch the built-in models once, start the chat.
# make test: the same with the test tools, then the tests.
# Nothing that is done already is done again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: chat test soak lint models docs clean

chat: $(VENV)/installed
	@$(BIN)/chatbot

test: $(VENV)/installed-test
	$(BIN)/chatbot models fetch
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

soak: $(VENV)/installed-test
	$(BIN)/chatbot models fetch
	$(BIN)/python -m tests.soak kills --count 500
	$(BIN)/python -m tests.soak company --count 20000
	$(BIN)/python -m tests.soak full --count 100
	$(BIN)/python -m tests.soak damage
	$(BIN)/python -m pip install --quiet --editable '.[soak]'
	$(BIN)/python -m tests.soak fuzz --cases 100000

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed-test
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV)

$(VENV)/installed: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		echo "make: $(PYTHON) -m venv failed: install Python 3.11 to 3.13 with venv (on Debian: apt-get install python3-venv)" >&2; \
		rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --progress-bar on --editable .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	@touch $@
