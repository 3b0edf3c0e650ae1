# Two commands on a fresh machine: `make demo` and `make test`. Python >= 3.11 and make are all they need.

PYTHON ?= python3
TOOLS := .tools
# uv from the machine where it has one, else our own copy in a folder of ours.
UV := $(shell command -v uv 2>/dev/null || echo $(TOOLS)/bin/uv)
RUN := $(UV) run --quiet
LIMIT ?=
KILLS ?=
SHIPPED := -p millstream.engine -p millstream.handlers -p millstream.program -p millstream.views -p millstream.bench

.PHONY: demo test check format docs wheel release bench bench-smoke bench-peers figures torture clean

demo: .venv/ready  ## a year of real flights through the engine
	$(RUN) python -m examples.flights $(if $(LIMIT),--limit $(LIMIT))

test: .venv/ready  ## the whole suite
	$(RUN) pytest -n auto --dist worksteal

check: .venv/ready  ## format, lint, types of what is shipped, of the tests and of the examples, tidiness
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	@rm -rf build  # a module that was moved away would still be in what is built from it
	$(UV) run --quiet --isolated --no-editable mypy --strict $(SHIPPED)
	$(UV) run --quiet --isolated --no-editable mypy --strict tests examples
	$(RUN) pytest -q tests/test_tidy.py

format: .venv/ready
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

docs: .venv/ready  ## the documentation as a site, in out/site; a link to nowhere or a warning fails
	@rm -rf out/site out/site-made  # what was read before would not be warned of again
	$(RUN) --isolated --group docs sphinx-build -W --keep-going --quiet -b html -c docs -d out/site-made . out/site
	@echo "the site is in out/site: open out/site/index.html"

wheel: .venv/ready  ## the wheel, in dist, tried in an environment where nothing else of ours is
	@rm -rf build dist *.egg-info  # what an earlier build has listed would be in this one, too
	$(UV) build --quiet --out-dir dist
	@rm -rf build
	$(UV) venv --quiet dist/.tried
	$(UV) pip install --quiet --python dist/.tried/bin/python "$$(ls dist/*.whl)[bench,calendar,cli,effects,tables,telemetry,web]" pytest
	dist/.tried/bin/python -I .ci/try_wheel.py README.md examples/bank.py
	@rm -rf dist/.tried

release: .venv/ready  ## make release VERSION=0.2.0: checks, tests, builds the wheel and tags; publishes nothing
	.ci/release "$(VERSION)"

bench: .venv/ready  ## the figures, with the machine and the versions they belong to
	$(RUN) python -m millstream.bench

bench-smoke: .venv/ready  ## every figure once, too small to mean anything: does it run?
	$(RUN) python -m millstream.bench --smoke

bench-peers: .venv/ready  ## beside other software that keeps events, which is installed for it, and Redis if it is there
	$(RUN) --isolated --group peers pytest -q tests/bench/test_peers.py
	$(RUN) --isolated --group peers python -m millstream.bench --only 'peers*'

figures: .venv/ready  ## the page with plots of the figures that are kept in docs/figures
	@mkdir -p out
	@$(RUN) python -m millstream.bench show $(lastword $(sort $(wildcard docs/figures/*.json))) --html out/figures.html > out/figures.txt
	@echo "the figures are in out/figures.html, and as text in out/figures.txt"

torture: .venv/ready  ## kill a busy engine a hundred times, tear copies of its log: is anything lost?
	$(RUN) python -m millstream.bench torture $(if $(KILLS),--kills $(KILLS) --images $(KILLS))

.venv/ready: pyproject.toml | uv
	$(UV) sync --quiet
	@touch $@

.PHONY: uv
uv:
	@test -x "$(UV)" || { $(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check uv; }

clean:
	rm -rf .venv $(TOOLS) build dist out .mypy_cache .pytest_cache .ruff_cache
