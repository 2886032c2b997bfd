# Every target makes .venv by itself, from a bare python3 (3.11 or newer).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := $(VENV)-lowest
CLASSROOM := $(VENV)-classroom

# In a folder that cannot be written, what tools and lessons leave behind goes where VENV is.
ifneq ($(shell test -w . && echo yes),yes)
LEFT := $(abspath $(VENV))/left/
export COURSE_RUNS ?= $(LEFT)runs
export RUFF_CACHE_DIR := $(LEFT).ruff_cache
export PYTEST_ADDOPTS += -o cache_dir=$(LEFT).pytest_cache
endif

.DEFAULT_GOAL := help
.PHONY: help lab course test lowest lint build record publish benchmark preflight classroom slides kit \
	site links clean

help:  ## Show this list
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14 | sed 's/^/  /'

# Learners work on copies, so that an update and their edits never meet.
WORK ?= $(or $(LEFT),./)work

lab: $(READY)  ## Open lesson 0 in JupyterLab (LAB_FLAGS="--no-browser --port 9000" to change how)
	@$(BIN)/python -m tools.lab $(WORK) $(LAB_FLAGS) || { status=$$?; [ "$$(id -u)" != 0 ] || \
		echo 'As root, JupyterLab has to be told so: make lab LAB_FLAGS="--allow-root"' >&2; exit $$status; }

course: $(READY)  ## Run every lesson without a browser and print a table of results
	$(BIN)/python -m tools.course $(LESSONS)

preflight: $(READY)  ## Is this computer ready for a lesson? OK, or what to do
	@$(BIN)/python -m course_utils.preflight

# nbgrader adds menus to JupyterLab, so it has a place of its own, where it sees what .venv has.
classroom: $(CLASSROOM)/.ready  ## Exercises for nbgrader in classroom/; with SUBMISSIONS=FOLDER, grade them
	@$(CLASSROOM)/bin/python -m tools.classroom $(if $(SUBMISSIONS),grade "$(SUBMISSIONS)",release $(LESSONS))

slides: $(VENV)/.slides  ## Each lesson as a deck of slides, in build/slides (see docs/teaching.md)
	@$(BIN)/python -m tools.slides $(LESSONS)

kit: $(READY)  ## One zip for a room without a network, in dist (KIT_FLAGS goes to pip)
	@$(BIN)/python -m tools.kit $(KIT_FLAGS)

# One thread each: a second one gains nothing at this size, and loses much on a busy machine.
PYTEST = COURSE_DATA=sample COURSE_PACE=quick OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_FLAGS)
# Exercises run in their worked form only: a stub has nothing to run.
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=240 --ignore=notebooks/exercises
UNITS := $(LEFT).pytest_cache/units
# Two lessons run with the unit tests, and four suites' tests with the other lessons, so that both
# sides take about as long.
BESIDE := notebooks/00_start_here.ipynb notebooks/05_style_transfer.ipynb
ASIDE := tests/train tests/teaching tests/site tests/scale

# The unit tests run beside the notebooks; what they said comes after. 5: the flags chose no test.
define TESTS
@mkdir -p $(UNITS)
@$(PYTEST) tests $(BESIDE) $(ASIDE:%=--ignore=%) $(NBVAL) -o cache_dir=$(UNITS) > $(UNITS)/log 2>&1 & units=$$!; \
trap 'kill $$units 2>/dev/null' INT TERM; \
$(PYTEST) notebooks $(ASIDE) $(BESIDE:%=--ignore=%) $(NBVAL); lessons=$$?; \
echo "Notebooks are done; waiting for the unit tests …"; \
wait $$units; units=$$?; cat $(UNITS)/log; \
for status in $$lessons $$units; do [ $$status -eq 0 ] || [ $$status -eq 5 ] || exit $$status; done
endef

test: export COURSE_CLASSROOM = $(abspath $(CLASSROOM))/bin/python
test: $(READY) $(CLASSROOM)/.ready lint  ## Check everything: style, unit tests, and each notebook on the bundled sample
	$(TESTS)

lowest: BIN := $(LOWEST)/bin
lowest: $(LOWEST)/.ready  ## Try the lowest versions that pyproject.toml allows
	$(TESTS)

lint: $(READY)  ## Check style and form of code and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m tools.build --check

build: $(READY)  ## Build the notebooks from notebooks/source; outputs stay where the code is the same
	$(BIN)/python -m tools.build

record: $(READY)  ## Build the notebooks and record their outputs on full MNIST (see CONTRIBUTING.md)
	$(BIN)/python -m tools.record $(LESSONS)

site: $(READY)  ## Build the web site into build/site, from the recorded notebooks, and check its links
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.site

links: $(READY)  ## Build the web site, and ask the network for every address elsewhere, too
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.site --links

publish: $(READY)  ## Move the course to a fork: make publish REPO=owner/name
	$(BIN)/python -m tools.publish $(REPO)

benchmark: $(READY)  ## Measure loader, progress bar, trace and Trainer, as ratios in one run
	$(BIN)/python -m tools.benchmark

clean:  ## Remove the virtual environment and what tools left behind
	rm -rf .venv .venv-lowest .venv-classroom build dist classroom .pytest_cache .ruff_cache notebooks/runs notebooks/progress.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Makes a virtual environment in the folder of the file that stands for it.
define MAKE_VENV
@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	"Python %d.%d is too old: the course needs 3.11 or newer. Try: make PYTHON=python3.12" % v[:2] or 0)'
@mkdir -p $(@D) 2>/dev/null && [ -w $(@D) ] || { echo "$(@D) cannot be written: say where the" \
	"virtual environment may go, as in: make $(MAKECMDGOALS) VENV=/tmp/course" >&2; exit 1; }
@$(PYTHON) -m venv $(@D) || { \
	echo "python3 has no venv module: install it (Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
@echo "Installing the course into $(@D) (torch is large: a few minutes, once) …"
endef
PIP = $(@D)/bin/python -m pip install --quiet --disable-pip-version-check
COURSE := --editable ".[test,author,style,site]"

$(READY): pyproject.toml constraints.txt
	$(MAKE_VENV)
	@$(PIP) --constraint constraints.txt $(COURSE)
	@touch $@

$(VENV)/.slides: $(READY)
	@$(PIP) --constraint constraints.txt --editable ".[slides]"
	@touch $@

$(CLASSROOM)/.ready: $(READY)
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D)
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/course.pth"
	@$(PIP) --constraint constraints.txt --editable ".[classroom]"
	@touch $@

# From nothing: uv would keep what is there and new enough. Old versions have no wheels for new Pythons.
$(LOWEST)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v[:2] != (3, 11) and \
		"Python %d.%d has no such old versions. Try: make lowest PYTHON=python3.11" % v[:2] or 0)'
	@rm -rf $(@D)
	$(MAKE_VENV)
	@$(PIP) uv
	@$(@D)/bin/uv pip install --quiet --python $(@D) --resolution lowest-direct $(COURSE)
	@touch $@
