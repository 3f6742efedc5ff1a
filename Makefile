# The two commands of the README, and those of a working day. Everything runs in .venv, which is made here.

# Python 3.11 or newer; another one with: make demo PYTHON=/path/to/python3.12
PYTHON = python3
BIN = .venv/bin
INSTALLED = .venv/.installed
INSTALL_LOG = .venv/install.log
DEMO = demo-output
# How much `make crash-test` kills on each kind of storage, and when
KILLS = 200
SEED = 1
CLEAN_HINT = code=$$?; echo "If $(DEMO) is from another version or half made: make clean, then again."; exit $$code

.PHONY: help demo test check crash-test lint types format clean

help:
	@echo "make demo     set up .venv, draw scenes, label them, show how good the labels are"
	@echo "make test     set up .venv, run the tests"
	@echo "make check    format, lint, types, tests: what a change must pass"
	@echo "make crash-test   kill jobs 400 times and compare what they leave, about an hour; KILLS=20 is quicker"
	@echo "make format   put the code into the house's format"
	@echo "make clean    remove the demo's output and caches (.venv stays; remove it by hand)"

demo: $(INSTALLED)
	@echo "1. Twelve scenes, drawn here, with the truth about every pixel"
	@test -f $(DEMO)/world/manifest.parquet \
		|| $(BIN)/escnet demo-world --n 12 --seed 3 --output $(DEMO)/world >/dev/null || { $(CLEAN_HINT); }
	@echo "   $(DEMO)/world/images, $(DEMO)/world/masks"
	@echo
	@echo "2. Labels, by the small network in the box: 48 names, half of the objects in combinations it never saw"
	@$(BIN)/escnet annotate $(DEMO)/world/manifest.parquet --vocabulary $(DEMO)/world/vocabulary.yaml \
		--model escnet-nano --output $(DEMO)/labels || { $(CLEAN_HINT); }
	@echo
	@echo "3. How good they are: mIoU is the overlap of labels and truth, averaged over the classes, 1 at best"
	@$(BIN)/escnet evaluate $(DEMO)/labels --ground-truth $(DEMO)/world/manifest.parquet
	@echo
	@echo "4. What one sees"
	@$(BIN)/python examples/read_labels.py $(DEMO)/labels $(DEMO)/pictures
	@echo
	@echo "Every picture beside its labels:          $(DEMO)/pictures/"
	@echo "The labels, one Parquet file a shard:     $(DEMO)/labels/labels/"
	@echo "How they were read:                       examples/read_labels.py"
	@echo "The network knows this drawn world and no photographs. README.md goes on from here: your own words,"
	@echo "your own pictures, training. The same command again finds everything done."

test: $(INSTALLED)
	@$(BIN)/python -m pytest

check: lint types test

crash-test: $(INSTALLED)
	@$(BIN)/python -m tests.crash.crash_test --kills $(KILLS) --output-on local --seed $(SEED)
	@$(BIN)/python -m tests.crash.crash_test --kills $(KILLS) --output-on s3 --seed $(SEED)

lint: $(INSTALLED)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(INSTALLED)
	@$(BIN)/mypy

format: $(INSTALLED)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean:
	rm -rf $(DEMO) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# pip says hundreds of lines; shown are those of the large packages, and errors. All of them are in the log.
# aiobotocore, which s3fs needs anyway, is named first: it admits few versions of botocore, and pip searches for minutes,
# and in the end gives up, if it has settled on the newest boto3 before.
$(INSTALLED): pyproject.toml
	@rm -f $(INSTALLED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1)."; \
		echo "Name another one: make demo PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv || { \
		echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing into .venv. PyTorch makes this a download of several GB and about 7 GB on disk;"
	@echo "it takes from three minutes to half an hour, once."
	@{ $(BIN)/python -m pip install --disable-pip-version-check aiobotocore --editable '.[dev]' 2>&1 \
		&& touch $(INSTALLED); } | tee $(INSTALL_LOG) | awk ' \
		/^ *(Downloading|Using cached).*\([0-9.]+ [MG]B\)/ { print "  " $$(NF-2), $$(NF-1), $$NF; fflush() } \
		/^Installing collected packages/ { print "  unpacking everything, which takes minutes ..."; fflush() } \
		/^ *(ERROR|error)/ { print; fflush() }'
	@test -f $(INSTALLED) || { echo "The installation failed; all that pip said: $(INSTALL_LOG)"; exit 1; }
	@echo "Installed."
