# All that a person or CI does here. Each target sets up what it needs.
.DEFAULT_GOAL := help
.PHONY: help setup demo test tests quick lint style types docs model accuracy atoms crowd explain papers curve movies live bench fuzz kill screenshots clean

VENV := .venv
BIN := $(VENV)/bin
export PYTHON
# On a virtual display, so that a window of the tests is in nobody's way; nothing where there is a
# display always.
HEADLESS := $(BIN)/python -m napari_atomicity.cli.display

# Tests without a window, of the folders that change most.
QUICK := tests/core tests/io tests/statistics tests/state tests/project tests/detection tests/test_package.py

help: ## Show this
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Make .venv and install everything
	@tools/setup.sh

demo: setup ## Analyse the bundled example and open it in napari
	$(BIN)/atomicity demo --out demo-output

# Compiled modules are kept, so that the processes that tests start do not compile them again.
test tests quick: export PYTHONDONTWRITEBYTECODE :=
# With PYSIDE=1 the window runs with PySide6 instead of PyQt6 (Python 3.12 or later).
# Types are checked beside the tests: alone, mypy leaves all cores but one idle for over a minute.
test: setup style ## Everything that must pass (PYSIDE=1 with PySide6)
	$(if $(PYSIDE),$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[pyside6]")
	@$(MAKE) --no-print-directory -j 2 tests types

tests: setup
	$(if $(PYSIDE),QT_API=pyside6 PYTEST_QT_API=pyside6) NAPARI_ASYNC=0 OMP_NUM_THREADS=1 $(HEADLESS) $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(PYTEST_OPTIONS)

quick: setup ## Style and the fast tests, after each change (under two minutes)
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -q $(QUICK)

lint: setup style types ## Style, docstrings, types, import contracts, manifest

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari-atomicity

types: setup
	$(BIN)/numpydoc lint $$(find src -name '*.py')
	$(BIN)/mypy

# With GALLERY=0 the examples are not run, and the gallery has no figures.
GALLERY := 1
docs: setup ## The documentation site, into build/docs (GALLERY=0 does not run the examples)
	$(BIN)/python -m sphinx -b html -W --keep-going -q -D plot_gallery=$(GALLERY) docs build/docs

model: setup ## Train the shipped models on simulated images (about an hour)
	$(BIN)/python tools/make_model.py
	$(BIN)/python tools/calibrate_apparent_size.py
	$(BIN)/python tools/calibrate_lone_atoms.py

accuracy: setup ## Scores beside the baselines, into docs/explanation/accuracy.md
	$(BIN)/python docs/scripts/make_accuracy.py
	$(BIN)/python docs/scripts/make_sessions.py

atoms: setup ## How well single atoms are found, counted and spread, into docs/ (hours with --retrain)
	$(BIN)/python docs/scripts/make_atoms_accuracy.py
	$(BIN)/python docs/scripts/make_atomic_numbers.py
	$(BIN)/python docs/scripts/make_dispersion_check.py
	$(BIN)/python docs/scripts/make_single_atom_calibration.py

crowd: setup ## Marks of a simulated crowd and what is learnt from them, into docs/explanation/crowd.md
	nice -n 19 $(BIN)/python docs/scripts/make_crowd.py

movies: setup ## How well clusters of movies are followed, into docs/explanation/movies.md
	$(BIN)/python docs/scripts/make_movies.py

live: setup ## How soon a change of conditions is detected, into docs/explanation/many_images.md
	$(BIN)/python docs/scripts/make_live.py

explain: setup ## Where the shipped model looks, into docs/explanation/explain.md
	$(BIN)/python docs/scripts/make_explain.py

papers: setup ## What the papers report beside our figures, into docs/explanation/papers.md (an hour or two)
	$(BIN)/atomicity validate --simulate --out build/validation
	$(BIN)/python docs/scripts/make_papers.py
	$(BIN)/python docs/scripts/make_islands.py

curve: setup ## How many training images are needed, into docs/explanation/learning_curve.md
	$(BIN)/python docs/scripts/make_learning_curve.py

bench: setup ## All times and their tables, into docs/ (the machine should be idle)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/large.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/simulation.py
	$(BIN)/python benchmarks/atoms.py
	$(BIN)/python benchmarks/batch.py
	$(BIN)/python benchmarks/live.py
	$(HEADLESS) $(BIN)/python benchmarks/window.py
	$(HEADLESS) $(BIN)/python benchmarks/day.py
	$(HEADLESS) $(BIN)/python benchmarks/walk.py
	$(HEADLESS) $(BIN)/python benchmarks/scatter.py
	$(HEADLESS) $(BIN)/python benchmarks/gallery.py
	$(BIN)/python benchmarks/report.py

# Number of damaged files of each kind; CASE=images:17 opens one of them again; RESUME=1 tries only
# those that an earlier run has not tried, or that failed.
N := 1000
fuzz: setup ## Open N damaged files of each kind, into docs/explanation/reliability.md (N=10000 takes hours)
ifdef CASE
	PYTHONPATH=tests $(BIN)/python -m fuzz $(CASE)
else
	status=0; $(BIN)/python benchmarks/fuzzing.py --cases $(N) $(if $(RESUME),--resume) || status=$$?; \
	$(BIN)/python benchmarks/report.py && exit $$status
endif

kill: setup ## Kill N windows that correct labels, and count what is lost (N=1000 takes an hour)
	$(HEADLESS) $(BIN)/python benchmarks/kills.py --kills $(N)
	$(BIN)/python benchmarks/report.py

screenshots: setup ## The pictures of the documentation
	$(HEADLESS) $(BIN)/python docs/scripts/make_screenshots.py
	$(BIN)/python docs/scripts/make_page_pictures.py

clean: ## Remove what was made, the environment too
	rm -rf $(VENV) build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
