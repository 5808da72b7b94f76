# SPDX-License-Identifier: BSD-2-Clause
#
# For GNU make and BSD make alike: no conditionals, no functions.

PYTHON?=	python3
VENV=		.venv
PY=		$(VENV)/bin/python
PYTEST=		$(PY) -m pytest
# fuzz: instances, and a seed (empty: any).  fuzz-crash: seconds.
FUZZ_COUNT?=	1000000
FUZZ_SEED?=
FUZZ_SECONDS?=	600
SMP_RUNS?=	1000
# mutants: words of their lines (empty: all).
MUTANTS?=
BUILD_TOOLS=	'scikit-build-core>=0.10' 'cffi>=1.16'

# What the compiled parts are made of; a change builds them again.
NATIVE!=	find nvmmconf -name '*.[ch]' -o -name CMakeLists.txt -o -name generate.py

all: run

help:
	@echo 'make         run the cases on every target, write reports/html/index.html'
	@echo 'make test    run the tests of nvmmconf itself'
	@echo 'make lint    ruff and mypy'
	@echo 'make fuzz    softnvmm beside this processor: FUZZ_COUNT instructions, FUZZ_SEED'
	@echo 'make fuzz-crash   random code and state for FUZZ_SECONDS: nothing may crash'
	@echo 'make sanitize     softnvmm and its tests with the sanitizers'
	@echo 'make requirements   every requirement and where it is checked'
	@echo 'make chaos   the cases under twenty seeds of NVMM_SOFT_CHAOS'
	@echo 'make stress-stop   100,000 stops of a running vCPU on each profile: none is lost'
	@echo 'make fuzz-api   ten minutes of random calls to the bundled libnvmm'
	@echo 'make stress-smp   machines of four CPUs, started SMP_RUNS times on each profile'
	@echo 'make mutants   small bugs put into softnvmm and the accelerator: tests must notice each'
	@echo 'make bench   time it: ratios, measured side by side'
	@echo 'make clean   remove what was built (results in reports/ stay)'
	@echo 'PYTHON=...   which Python makes the environment in .venv (3.11 or newer)'

run: $(VENV)/.installed
	$(PYTEST) -n auto

# Reports that tests make by the way are not among the user's.
test: $(VENV)/.test
	$(PYTEST) -n auto --nvmm-reports=build/reports tests

lint: $(VENV)/.lint
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

requirements: $(VENV)/.installed
	$(PY) -m nvmmconf.cli requirements

fuzz: $(VENV)/.test
	$(PY) tests/softnvmm/test_cpu_native.py $(FUZZ_COUNT) $(FUZZ_SEED)

fuzz-crash: $(VENV)/.test
	$(PY) tests/softnvmm/test_cpu_fuzz.py $(FUZZ_SECONDS) $(FUZZ_SEED)

# Python loads what is tested, so the sanitizer has to be there before Python;
# and without our plugin, whose disassembler does not go with it.
sanitize: $(VENV)/.test
	NVMMCONF_SANITIZE=1 ASAN_OPTIONS=detect_leaks=0 \
	    LD_PRELOAD=`$(CC) -print-file-name=libasan.so` \
	    $(PYTEST) -n 2 -p no:nvmmconf --noconftest tests/softnvmm \
	    --ignore=tests/softnvmm/test_cpu_qemu.py
	$(PYTEST) -n 2 --nvmm-reports=build/reports -k sanitized tests/softnvmm_api

# The whole suite under twenty seeds of NVMM_SOFT_CHAOS: no verdict changes.
chaos: $(VENV)/.test
	NVMMCONF_CHAOS_SEEDS="1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20" \
	    $(PYTEST) -n auto tests/softnvmm_api/test_chaos.py

# Ten minutes of random calls, sanitizers on.
fuzz-api: $(VENV)/.test
	NVMMCONF_FUZZ_SECONDS=600 $(PYTEST) -n 0 -s tests/softnvmm_api/test_fuzz_api.py

# A machine of four CPUs, again and again in each mode on each profile.
stress-smp: $(VENV)/.test
	NVMMCONF_SMP_RUNS=$(SMP_RUNS) $(PYTEST) -n auto --nvmm-reports=build/reports \
	    tests/boot/test_boot_smp.py

# Wrong texts in a copy of softnvmm, one at a time; 1 where the tests do not notice.
mutants: $(VENV)/.test
	$(PY) tests/mutants/run.py $(MUTANTS)

# Each way round on each profile; an hour on two processors, as version 1 repeats its kicks.
stress-stop: $(VENV)/.test
	NVMMCONF_STRESS_STOPS=100000 \
	    $(PYTEST) -n auto --nvmm-reports=build/reports tests/accel/test_accel_stress_stop.py

bench: $(VENV)/.installed
	$(PY) tests/bench/bench.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Names what is missing, with the package that has it, before anything is made.
tools:
	@PYTHON='$(PYTHON)' sh .ci/tools

# The stamp says that it was made to the end.
$(VENV)/.made:
	@PYTHON='$(PYTHON)' sh .ci/tools
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip --version >/dev/null
	@touch $(VENV)/.made

# No build isolation: a changed C file is then compiled again offline, and only it.
$(VENV)/.installed: $(VENV)/.made pyproject.toml $(NATIVE)
	@PYTHON='$(PY)' sh .ci/tools
	$(PY) -m pip install -q --disable-pip-version-check $(BUILD_TOOLS) \
	    `command -v cmake >/dev/null 2>&1 || echo cmake ninja`
	$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e .
	@touch $(VENV)/.installed

$(VENV)/.test: $(VENV)/.installed
	$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[test]'
	@touch $(VENV)/.test

$(VENV)/.lint: $(VENV)/.installed
	$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[test,lint]'
	@touch $(VENV)/.lint

.PHONY: all help run test lint requirements stress-stop bench fuzz fuzz-crash sanitize chaos fuzz-api stress-smp \
	mutants clean tools
