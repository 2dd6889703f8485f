# make demo and make test do all the set-up themselves, on a bare machine with Python >= 3.11, a C++ compiler and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
TORCH_THREADS ?= 2

.PHONY: setup build demo test lint test-long sanitize clean

setup: build

# PyTorch first and pinned: a plain "torch" would bring gigabytes of GPU libraries to a machine that has no GPU.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt $$(grep '^torch==' constraints.txt)
	$(PIP) install -c constraints.txt scikit-build-core nanobind cmake ninja
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[train,onnx,dev]' -Cbuild-dir=build/dev
	touch $@

build: $(STAMP)
	@$(BIN)/cmake --build build/dev && $(BIN)/cmake --install build/dev --prefix $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))') > build/install.log

demo: build
	$(BIN)/bitfold demo --out demo-out

lint: build
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 -m "not slow and not train and not shared"

test-long: build
	$(BIN)/python -m pytest -m "slow or train or shared"

clean:
	rm -rf build build-* demo-out .pytest_cache .mypy_cache .ruff_cache
