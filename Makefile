# make demo and make test do all the set-up themselves, on a bare machine with Python >= 3.11, a C++ compiler and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: setup build demo test lint test-long test-emulated sanitize clean

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
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy

# one thread a process: two workers with two threads each would wait for one another on two cores
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not train and not shared"

# BITFOLD_TEST_CASES: how many random cases every conv kernel runs at the end, 100000 unless set
test-long: build
	$(BIN)/python -m pytest -m "slow or train or shared"
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.native.long

# The core under AddressSanitizer and UndefinedBehaviorSanitizer, driven by the tests of kernels, engine and file.
SANITIZERS := libasan.so libubsan.so libstdc++.so
sanitize: build
	$(BIN)/cmake -S . -B build-sanitize -G Ninja -DCMAKE_BUILD_TYPE=Release -DBITFOLD_SANITIZE=ON -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python > /dev/null
	$(BIN)/cmake --build build-sanitize
	$(BIN)/cmake --install build-sanitize --prefix build-sanitize/site > build-sanitize/install.log
	ln -sfn $(CURDIR)/src/bitfold/* build-sanitize/site/bitfold/
	LD_PRELOAD="$$(for l in $(SANITIZERS); do $(CXX) -print-file-name=$$l; done | tr '\n' ' ')" \
	  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
	  $(BIN)/python tests/other_core.py build-sanitize/site -m "not slow" tests/native tests/engine tests/ir/test_file.py \
	  --ignore tests/native/test_far.py --ignore tests/engine/test_process.py --ignore tests/engine/test_allocations.py

# AVX-512 kernels and the engine on a CPU without AVX-512: emulated by SIMDe (Debian: libsimde-dev). LONG=1 runs BITFOLD_TEST_CASES random
# cases of every conv kernel, 100000 unless set.
EMULATED := OMP_NUM_THREADS=1 $(BIN)/python tests/other_core.py build-emulated/site
test-emulated: build
	test -f /usr/include/simde/x86/avx512.h || { echo "test-emulated needs the SIMDe headers (Debian: apt-get install libsimde-dev)"; exit 1; }
	$(BIN)/cmake -S . -B build-emulated -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DCMAKE_BUILD_TYPE=Release -DBITFOLD_EMULATE_AVX512=ON \
	  -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python > /dev/null
	$(BIN)/cmake --build build-emulated
	$(BIN)/cmake --install build-emulated --prefix build-emulated/site > build-emulated/install.log
	ln -sfn $(CURDIR)/src/bitfold/* build-emulated/site/bitfold/
	$(EMULATED) $(if $(LONG),-m tests.native.long --isa avx512,-m "not slow" tests/native tests/engine --ignore tests/native/test_far.py --ignore tests/engine/test_process.py)

# The NEON kernels, the engine and whole networks on AArch64: cross-compiled, run under user-mode emulation. Correctness only; emulation says
# nothing about speed. Debian: apt-get install g++-aarch64-linux-gnu qemu-user; Python, its libraries and NumPy come to build-aarch64/.
# The tests left out start processes, which the emulated Python cannot. LONG=1 runs BITFOLD_TEST_CASES random cases of every NEON conv kernel,
# made and compared by the Python of this machine (100000 of each in about an hour of two cores).
ARM := build-aarch64
ARM_PYTHON := qemu-aarch64 -L $(ARM)/root -E PYTHONPATH=$(ARM)/site:tests -E PYTHONDONTWRITEBYTECODE=1 $(ARM)/root/usr/bin/python3.11
test-aarch64: build
	sh tests/aarch64/fetch.sh $(ARM) $(BIN)/python
	$(BIN)/cmake -S . -B $(ARM)/core -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DCMAKE_BUILD_TYPE=Release \
	  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python > /dev/null
	$(BIN)/cmake --build $(ARM)/core
	rm -rf $(ARM)/site/bitfold && cp -r src/bitfold $(ARM)/site/ && cp $(ARM)/core/_core*.so $(ARM)/site/bitfold/_core.so
	mkdir -p $(ARM)/networks && OMP_NUM_THREADS=1 $(BIN)/python tests/aarch64/network.py write $(ARM)/networks
	$(ARM_PYTHON) tests/aarch64/network.py check $(ARM)/networks
	$(if $(LONG),OMP_NUM_THREADS=1 $(BIN)/python -m tests.native.long --far "$(ARM_PYTHON) -m tests.native.far", \
	  $(ARM_PYTHON) -m pytest -p no:cacheprovider -p no:randomly -m "not slow" tests/native tests/engine \
	  --ignore tests/native/test_far.py --ignore tests/engine/test_process.py --ignore tests/engine/test_allocations.py)
