# Two commands on a fresh machine: `make demo` and `make test`. Both install what they need.
PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz triton check proto sbom format openapi dashboard clean

help: ## List the targets.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Mien needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[dev,train]'
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run ## Install, pull the models, start Mien, verify real photographs, migrate a gallery.
	$(BIN)/mien demo

test: $(VENV)/.dev ## Run every test that this machine can run, those of single parts in WORKERS (2) processes.
	$(BIN)/mien models pull
	@failed=0; \
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile \
	  tests/unit tests/integration || failed=1; \
	$(BIN)/pytest --ignore tests/unit --ignore tests/integration || failed=1; \
	exit $$failed

fuzz: $(VENV)/.dev ## Fuzz REST, gRPC and the decoders for MIEN_FUZZ_SECONDS (300) each.
	MIEN_FUZZ_SECONDS=$${MIEN_FUZZ_SECONDS:-300} $(BIN)/pytest -s tests/fuzz

triton: ## Install a Triton server and its client beside Mien, for the tests that use them.
	$(PYTHON) -m venv .venv-triton
	.venv-triton/bin/pip install --quiet 'tritonclient[grpc,http]' nvidia-pytriton onnxruntime

check: $(VENV)/.dev ## Lint, types, spelling, protos, containers, generated files.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/buf lint
	BIN=$(BIN) deploy/check.sh
	BIN=$(BIN) deploy/check_generated.sh

proto: $(VENV)/.dev ## Compile proto/ into services/rpc.
	PYTHON=$(BIN)/python proto/generate.sh

sbom: $(VENV)/.dev ## Write mien.cdx.json: what the images are made of (CycloneDX).
	$(BIN)/python deploy/dependencies.py --sbom mien.cdx.json

openapi: $(VENV)/.dev ## Write the generated documents: OpenAPI and the error catalogue.
	$(BIN)/mien openapi docs/openapi.json
	$(BIN)/mien errors docs/errors.md

dashboard: $(VENV)/.dev ## Write the Grafana dashboard.
	$(BIN)/python deploy/grafana/dashboard.py

format: $(VENV)/.dev ## Mend what can be mended by itself.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove what was installed and built here (pulled models stay).
	rm -rf $(VENV) .venv-triton build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis
