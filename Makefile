# Two commands do everything on a fresh machine: `make figures` and `make test`. Both make .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Those named as a target can be: what Jupyter leaves beside them (Untitled, a copy) is none of ours.
NOTEBOOKS := $(shell ls notebooks | sed -n 's/^\([0-9][0-9]_[A-Za-z0-9_]*\)\.ipynb$$/\1/p')
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

unexport LC_ALL  # as C it keeps Python before 3.13 from a folder whose name is not ASCII
.NOTPARALLEL:  # each uses all cores by itself, also under make -j
.PHONY: figures test venv lab notebooks verdicts bench experiment_1 experiment_2 experiment_3 experiment_4 rule_for_z chaos_of_training repeated study sweep site clean $(NOTEBOOKS)

figures: $(READY)  ## every notebook on all cores, figures and numbers into images/
	$(BIN)/csbp-run all -p output_dir images

$(NOTEBOOKS): $(READY)  ## one notebook, for example `make 02_single_neuron_csbp`
	$(BIN)/csbp-run $@ -p output_dir images

test: $(READY)  ## lint, types, unit tests, doctests, and every stored notebook against its own outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy csbp_core csbp_notebooks study examples docs
	$(BIN)/pytest -n auto --dist loadfile

venv: $(READY)  ## what all others need and make for themselves

lab: $(READY)  ## open the notebooks
	$(BIN)/jupyter lab notebooks

notebooks: $(READY)  ## refresh the stored executed notebooks
	$(BIN)/csbp-run all --store

verdicts: $(READY)  ## what README says of every claim, from the numbers in images/
	$(BIN)/python -m csbp_notebooks.verdict_text

bench: $(READY)  ## speed, into tests/benchmarks/results.json, BENCHMARKS.md and the README's line
	$(BIN)/pytest -q tests/benchmarks/bench_*.py --benchmark-only --benchmark-json=/dev/null

# A cell that is there is finished: whatever else has changed, it is not made again.
STUDY := $(BIN)/snakemake -s study/Snakefile --rerun-triggers mtime --rerun-incomplete --keep-going --quiet rules
STUDY += $(if $(CONFIG),--configfile "$(CONFIG)") $(if $(PROFILE),--profile "$(PROFILE)",--cores all)

experiment_1 experiment_2 experiment_3 experiment_4: $(READY)  ## of study/PROTOCOL.md, into study/results/; goes on where it was stopped
	$(STUDY) -- $@

repeated: $(READY)  ## two cells of every experiment again, and study/repeated.json says whether every number is the same
	$(STUDY) -- $@

rule_for_z: $(READY)  ## how to choose z, tried on tuning networks, into study/results/rule_for_z/
	$(STUDY) -- $@

chaos_of_training: $(READY)  ## exponents along trainings and of layers by themselves, into study/results/chaos/
	$(STUDY) -- $@

study: $(READY)  ## all that study/config.yaml asks for, the experiments behind notebook 08; goes on where it was stopped
	$(STUDY)

# Before anything is made, .venv included.
ifeq ($(filter sweep,$(MAKECMDGOALS))$(SWEEP),sweep)
$(error which sweep? make sweep SWEEP=sweeps/example.yaml, SWEEP=sweeps/exponent.yaml, or a file of your own)
endif
sweep: $(READY)  ## a notebook at every point of a grid, into runs/sweeps/; `PROFILE=sweeps/profiles/slurm` is on a cluster
	$(BIN)/python -m csbp_notebooks.sweep "$(SWEEP)" $(if $(JOBS),--jobs $(JOBS)) $(if $(PROFILE),--profile "$(PROFILE)")

site: $(READY)  ## the web site, from stored notebooks and docstrings, into build/site/html
	$(BIN)/python -m docs.build

clean:  ## what can be made again
	rm -rf .venv runs build dist *.whl *.egg-info .snakemake
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'make: needs Python 3.11 or later: make PYTHON=python3.11 ...')"
	$(PYTHON) -m venv .venv
	# PyTorch with what its build needs, be it for CPU or CUDA; all else is listed, so nothing is pulled in.
	$(PIP) install --constraint requirements.txt torch
	$(PIP) install --no-deps -r requirements.txt
	# Earlier versions of this file installed builds of these two that do not load beside a CPU PyTorch.
	@for package in torchvision torchaudio; do \
	  $(BIN)/python -c "import $$package" 2>/dev/null || $(PIP) --quiet uninstall --yes $$package; \
	done
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@
