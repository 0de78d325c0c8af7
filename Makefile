# Two commands do everything on a machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
CUDA   ?= 13
BIN     = $(VENV)/bin
APART   = strangers or frameworks or browser or cluster or mpi or intel or onednn
INTEL   = $(addprefix tests/test_,$(addsuffix .py,ops ops_nn finite_differences device portable sharpness intel))
ONEDNN  = $(addprefix tests/test_,$(addsuffix .py,ops ops_nn finite_differences device sharpness numpy_kernels onednn))
CURVLINOPS = curvlinops-for-pytorch backpack-for-pytorch einops unfoldNd tqdm einconv linear_operator jaxtyping wadler_lindig

.PHONY: help demo test coverage quick strangers frameworks test-browser test-cluster test-mpi test-intel test-onednn survey test-gpu gpu check format bench bench-gpu bench-intel figures tutorials docs wheel clean

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / \t/' | expand -t 12

$(VENV)/base: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rsam-ref needs Python >= 3.11; this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/test: $(VENV)/base
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,torch,dev]"
	@touch $@

EXTRAS = $(addprefix $(VENV)/,strangers browser cluster intel onednn)
$(EXTRAS): $(VENV)/%: $(VENV)/test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$*]"
	@touch $@

$(VENV)/frameworks: $(VENV)/test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[frameworks]"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --upgrade --target $(VENV)/elsewhere timm torchvision $(CURVLINOPS)
	@touch $@

$(VENV)/mpi: $(VENV)/test
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[mpi]" mpich
	@touch $@

$(VENV)/docs: $(VENV)/base
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs,torch,jax]"
	@touch $@

demo: $(VENV)/base  ## set up, then compare SGD, SAM and R-SAM on real digits (a minute)
	$(BIN)/rsam-ref compare --quick
	@echo 'To use rsam-ref in this shell: . $(BIN)/activate'

test: $(VENV)/test  ## set up, then run all tests
	$(BIN)/python -m pytest -m "not ($(APART))" -n auto --dist worksteal $(COVERAGE)

coverage: COVERAGE = --cov --cov-report=term
coverage: test   ## run all tests and show which lines and branches they reach (takes 1.6 times as long)

quick: $(VENV)/test ## run the tests of the mathematics (less than a minute)
	$(BIN)/python -m pytest -m quick -n 2 --dist worksteal -q

strangers: $(VENV)/strangers ## hold the checker against 180 implementations that it was not built on
	$(BIN)/python -m pytest -m strangers -n auto --dist worksteal -q

frameworks: $(VENV)/frameworks ## Keras, MLX, Lightning, accelerate and JAX: the checker on them, and rsam_ref.jax
	$(BIN)/python -m pytest -m frameworks -n auto --dist worksteal -q

test-browser: $(VENV)/browser ## the interactive page in Chromium: drag, keyboard, links, accessibility (a minute)
	@command -v chromium chromium-browser google-chrome google-chrome-stable > /dev/null || \
	  { echo 'There is no Chromium. Install one: apt-get install chromium' >&2; exit 1; }
	$(BIN)/python -m pytest -m browser -n 2 -q tests/browser

test-cluster: $(VENV)/cluster ## sweeps and comparisons on a Dask cluster of processes, one of them killed (a minute)
	$(BIN)/python -m pytest -m cluster -q

test-mpi: $(VENV)/mpi ## training on ranks of MPI, here on two (on others: RSAM_REF_TEST_RANKS=2,3,4 make test-mpi)
	$(BIN)/python -m pytest -m mpi -q

test-onednn: $(VENV)/onednn ## the ops and training with oneDNN's kernels (x86-64 Linux)
	$(BIN)/python -m pytest -m onednn -n auto --dist worksteal -q $(ONEDNN)

survey: $(VENV)/strangers ## released packages by the checker and by hand, relatives by their authors' code, flatness packages, the rules on other libraries' vectors (an hour)
	$(BIN)/python -m benchmarks.survey
	$(BIN)/python -m benchmarks.authors $(if $(AUTHORS),--authors $(AUTHORS))
	$(BIN)/python -m benchmarks.flatness_survey
	$(BIN)/python -m benchmarks.portable

test-gpu: $(VENV)/test ## run the tests that need a GPU (set up with: make gpu)
	$(BIN)/python -m pytest -m gpu -ra

gpu: $(VENV)/test ## add CuPy to the virtual environment (CUDA 13; make gpu CUDA=12)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[cuda$(CUDA)]"
	$(BIN)/rsam-ref doctor

test-intel: $(VENV)/intel ## ops, training and commands on an Intel GPU by dpnp, or on the processor as a SYCL device
	DPCPP_CPU_NUM_CUS=1 $(BIN)/python -m pytest -m intel -n 2 --dist worksteal -q $(INTEL)

check: $(VENV)/test ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.toml

format: $(VENV)/test ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/test ## what the tape, whole steps and the draw cost, against PyTorch, and how it grows
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.one_core
	$(BIN)/python -m benchmarks.steps --out runs/bench
	$(BIN)/python -m benchmarks.draw
	$(BIN)/python -m benchmarks.scaling --out runs/bench

bench-intel: $(VENV)/intel ## whole steps by dpnp, against the same definitions on NumPy
	$(BIN)/python -m benchmarks.devices

bench-gpu: $(VENV)/test ## whole steps on a GPU, against PyTorch
	$(BIN)/python -m benchmarks.gpu

figures: $(VENV)/base ## make the README's pictures anew
	$(BIN)/rsam-ref explain --save docs/step.png
	$(BIN)/rsam-ref explain --algorithm sam --against rsam --save docs/against.png
	$(BIN)/rsam-ref compare --out runs/readme
	cp runs/readme/compare.png docs/compare.png

tutorials: $(VENV)/test ## run all tutorials as scripts; their figures go to runs/tutorials
	set -e; for file in tutorials/[0-9]*.py; do \
	  echo $$file; RSAM_TUTORIAL_FIGURES=runs/tutorials $(BIN)/python -W error $$file; done

docs: $(VENV)/docs ## build the site into build/site: the tutorials are run, any warning is an error
	$(BIN)/python docs/build.py

wheel: $(VENV)/test ## build the wheel and the source archive into dist/
	$(BIN)/python -m build

clean:           ## remove the virtual environment and caches
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
