# make serve, make test: everything they need is set up in virtual environments of this folder.
PYTHON ?= python3
PORT ?= 8000
PIP = bin/pip install --quiet --disable-pip-version-check --require-hashes -r

.PHONY: help serve test test-clients test-engines test-foreign test-arm64 lint check soak bench setup-training train lock image images audit sbom clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: .venv-serve/ready ## serve the default model on http://127.0.0.1:8000 (PORT=, LABELSERVE_MODEL=)
	@PORT=$(PORT) exec .venv-serve/bin/python -m service

test: .venv/ready ## run all tests (ARGS= goes to pytest)
	.venv/bin/pytest -n 3 $(ARGS)

test-clients: .venv/ready ## other people's clients, which are installed in ~/.cache/labelserve once
	.venv/bin/pytest -m clients tests/clients $(ARGS)

test-engines: .venv/ready ## Ray Data and Spark, which are installed in ~/.cache/labelserve once (1 GB, Java for Spark)
	.venv/bin/pytest -m engines tests/engines $(ARGS)

test-foreign: .venv/ready ## exports of PyTorch's, which is installed in ~/.cache/labelserve once (1 GB)
	.venv/bin/pytest -m foreign tests/foreign $(ARGS)

test-arm64: .venv/ready ## the image for arm64, built and asked in an emulator that is set up here (root; minutes)
	tests/container/arm64_base.sh
	.venv/bin/pytest -m arm64 tests/container/test_arm64.py $(ARGS)

lint: .venv/ready ## style, types and the layers of docs/architecture.md
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

check: lint test ## what CI runs

soak: .venv/ready ## ten minutes of good, bad and huge images: nothing may be left over (ARGS=--seconds N)
	.venv/bin/python -m tests.load.soak $(ARGS)

bench: .venv/ready .venv-serve/ready .venv-bench/ready ## measure beside plain servers, for docs/performance.md (ARGS=--quick)
	.venv/bin/python -m tests.benchmarks $(ARGS)

setup-training: .venv-train/ready ## only install what training needs, in .venv-train
	@echo "enter it: . .venv-train/bin/activate; then, from any folder: python -m training --help"

train: .venv-train/ready ## train on CIFAR-10, downloaded by Keras (ARGS= goes to python -m training)
	.venv-train/bin/python -m training $(ARGS)

# What an image says of itself. REVISION ends in -dirty where the checkout has changes. SOURCE=https://…
# is where its sources are to be found, for the labels `source` and `documentation`.
VERSION = $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
REVISION = $(shell git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null || echo unknown)
CREATED := $(shell date -u +%Y-%m-%dT%H:%M:%SZ)
SOURCE ?=
SAYS = VERSION=$(VERSION) REVISION=$(REVISION) CREATED=$(CREATED) SOURCE=$(SOURCE)
image: ## build the container image labelserve:latest for this machine (ARGS= goes to docker build)
	docker build --tag labelserve $(SAYS:%=--build-arg %) $(ARGS) .

# Annotations repeat the labels where a registry shows them without fetching the image.
PLATFORMS ?= linux/amd64,linux/arm64
HASH = \#
OCI = org.opencontainers.image
ANNOTATIONS = title=labelserve licenses=MIT version=$(VERSION) revision=$(REVISION) \
    created=$(CREATED) $(if $(SOURCE),source=$(SOURCE) documentation=$(SOURCE)$(HASH)readme)
images: ## build for PLATFORMS= and push to IMAGE=, with SBOM and provenance (needs buildx)
	@[ -n "$(IMAGE)" ] || { echo "where to? make $@ IMAGE=registry/name:tag"; exit 1; }
	docker buildx build --platform $(PLATFORMS) --tag $(IMAGE) --push \
	    --sbom=true --provenance=mode=max $(SAYS:%=--build-arg %) \
	    $(ANNOTATIONS:%=--annotation "index,manifest:$(OCI).%") $(ARGS) .

COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header
lock: .venv/ready ## make the locks in requirements/ anew, with hashes and without addresses
	for set in serve "otel --extra otel" "parquet --extra parquet" "train --extra train" \
	    "dev --extra otel --extra parquet --extra train --group dev" "bench --group bench"; do \
	    set -- $$set; name=$$1; shift; \
	    $(COMPILE) pyproject.toml $$@ --output-file requirements/$$name.txt || exit 1; \
	done

# Every version in every lock, whatever Python or system it is for. pip-audit takes one version of a
# package at a time, so second versions go into a second list. --strict, because without it a service
# that knows none of the packages (a mirror of the index) passes for "no known vulnerabilities".
audit: .venv/ready ## known vulnerabilities of all locked packages (asks PyPI; ARGS= goes to pip-audit)
	@lists=$$(mktemp -d) && trap 'rm -rf "$$lists"' EXIT && \
	awk -v to="$$lists/" '/^[A-Za-z0-9]/ && !known[$$1]++ { \
	    name = $$1; sub(/==.*/, "", name); n = ++versions[name]; print $$1 > (to n ".txt") }' \
	    requirements/*.txt && \
	for list in "$$lists"/*.txt; do \
	    echo "auditing $$(grep -c . "$$list") packages" && \
	    .venv/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off $(ARGS) \
	        --requirement "$$list" || \
	    { echo "audit: NOT passed. Something above is vulnerable, or could not be looked up."; exit 1; }; \
	done

SBOM ?= results/sbom.json
sbom: .venv/ready ## bill of materials of the serving image (CycloneDX JSON, SBOM= names the file)
	@mkdir -p $(dir $(SBOM))
	@PYTHONWARNINGS=ignore .venv/bin/cyclonedx-py requirements requirements/serve.txt \
	    --pyproject pyproject.toml --mc-type application --output-reproducible \
	    --spec-version 1.6 --output-format JSON --output-file $(SBOM)
	@echo "$(SBOM)"

clean: ## remove the virtual environments and caches
	rm -rf .venv .venv-serve .venv-train .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv-serve/ready: requirements/serve.txt
.venv-train/ready: requirements/train.txt
.venv-bench/ready: requirements/bench.txt
.venv/ready: requirements/dev.txt
# TensorFlow 2.21 has no wheels for Python 3.14.
.venv-serve/ready .venv-bench/ready: NEWEST = 14
.venv-train/ready .venv/ready: NEWEST = 13
.venv-serve/ready .venv-train/ready .venv-bench/ready .venv/ready:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $(NEWEST)))' || \
	    { echo "$(@D) needs Python 3.11 to 3.$(NEWEST): make PYTHON=python3.$(NEWEST) $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(@D) from $< (once)"
	@$(PYTHON) -m venv --clear $(@D)
	@$(@D)/$(PIP) $<
# python -m training and python -m service, from any folder.
	@$(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' | \
	    { read -r packages && echo "$(CURDIR)" > "$$packages/labelserve.pth"; }
	@touch $@
