# The one front door. `make` alone lists what there is.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# frameworks.ipynb has an environment of its own.
FRAMEWORKS := reference/frameworks.ipynb
NOTEBOOKS := $(filter-out $(FRAMEWORKS),$(sort $(wildcard chapters/*.ipynb reference/*.ipynb)))
JUPYTER_BOOK := $(BIN)/jupyter-book build . --all -W -n --keep-going -q
# One thread a kernel and two kernels: on two cores faster than one kernel with two threads.
NBVAL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --nbval \
	-n 2 --dist loadfile -p no:cacheprovider --override-ini addopts= --override-ini filterwarnings=

VARIANT ?= 1
GRADING := PYTHONPATH=instructors:tools $(BIN)/python -m grading

# Two processes with one thread each, here too.
UNITS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal
NO_PAGES := --ignore tests/test_site.py --ignore tests/test_publishing.py

.PHONY: help book test test-fast test-site test-portable test-seeds test-properties test-frameworks \
	browser lab serve pdf chapters benchmark assignments grade slides zoo clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

$(READY): requirements.txt pyproject.toml tools/set_up.py
	@$(PYTHON) tools/set_up.py
	@touch $@

book: $(READY)  ## Build the book and name the page to open
	@$(JUPYTER_BOOK) > _build.log 2>&1 || { cat _build.log; exit 1; }; rm -f _build.log
	@echo "Open $(CURDIR)/_build/html/index.html"

test: $(READY)  ## All checks: style, types, units, strict nbval, hygiene, the built pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(NBVAL) $(NOTEBOOKS)
	$(UNITS) $(NO_PAGES)
	$(MAKE) test-site

test-fast: $(READY)  ## Style, types and unit tests only
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(UNITS) utils tests $(NO_PAGES) --ignore tests/test_validation.py

test-site: book browser  ## The built pages in a real Chromium
	$(BIN)/python -m pytest -q tests/test_site.py -n 2 --dist worksteal
	$(BIN)/python -m pytest -q tests/test_publishing.py

# Each run joins two settings: what is the same under both is the same under each.
test-portable: $(READY)  ## Strict nbval under other thread counts and instruction sets
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE $(NBVAL) $(NOTEBOOKS)
	ATEN_CPU_CAPABILITY=avx2 \
		$(subst -n 2,-n 1,$(subst OMP_NUM_THREADS=1,OMP_NUM_THREADS=2,$(NBVAL))) $(NOTEBOOKS)

test-seeds: $(READY)  ## Every chapter with its asserts under five shifted seeds
	$(BIN)/python tools/shift_seeds.py

test-properties: $(READY)  ## The book's general sentences against many new examples
	EXAMPLES=500 $(UNITS) tests/properties

test-frameworks: $(READY)  ## Other libraries' loops and the page about them, in an environment of their own
	@$(PYTHON) tools/frameworks_env.py
	.venv-frameworks/bin/python -m pytest -q tests/test_frameworks.py
	$(subst $(BIN)/,.venv-frameworks/bin/,$(subst -n 2 --dist loadfile,,$(NBVAL))) $(FRAMEWORKS)

browser: $(READY)
	@$(BIN)/python tools/chromium.py

lab: $(READY)  ## The chapters in JupyterLab, as copies in lab/ that keep what you write
	@$(BIN)/python tools/learner_copies.py lab
	@cd lab && ../$(BIN)/jupyter-lab $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_OPTIONS)

serve: book  ## Serve the book on this machine
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html

pdf: $(READY) browser  ## Print the whole book to _build/evaluation-mode.pdf
	$(BIN)/python tools/make_pdf.py _build/evaluation-mode.pdf

chapters: $(READY)  ## Run all chapters and reference pages and store their outputs
	$(BIN)/python tools/store_outputs.py

benchmark: $(READY)  ## Speed as ratios against named baselines
	$(BIN)/python -m benchmarks

assignments: $(READY)  ## What students get, as zips in _build/assignments (VARIANT=2, ONLY=name)
	@$(GRADING) assignments $(ONLY) --variant $(VARIANT)

grade: $(READY)  ## Grade a folder: make grade ASSIGNMENT=name SUBMISSIONS=folder (VARIANT=2, BOOK=address)
	@$(if $(and $(ASSIGNMENT),$(SUBMISSIONS)),,$(error say ASSIGNMENT=name and SUBMISSIONS=folder))
	@$(GRADING) grade $(ASSIGNMENT) $(SUBMISSIONS) --variant $(VARIANT) $(if $(BOOK),--book $(BOOK))

slides: $(READY)  ## Slides of the chapters in _build/slides (ONLY=chapters/02_dropout.ipynb)
	@$(BIN)/python tools/make_slides.py $(ONLY)

zoo:  ## Audit the public models again, in an environment of its own (about an hour)
	@$(PYTHON) tools/zoo_env.py
	.venv-zoo/bin/python -W ignore -m zoo

clean:  ## Remove what was built; keeps .venv
	rm -rf _build
