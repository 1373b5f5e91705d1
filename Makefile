# Every target installs what it needs, and installs it again when a pin changes.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
MINISTACK := .venv-ministack
AUDIT := .venv-audit
READERS := .venv-readers

# The local cloud is on loopback, where a proxy cannot reach it.
export NO_PROXY := localhost,127.0.0.1,$(NO_PROXY)
export no_proxy := $(NO_PROXY)

# Without compiled modules, the processes of the tests and of the local cloud take minutes longer.
unexport PYTHONDONTWRITEBYTECODE

SHELL := /bin/bash

# Print a dot for each package, and pip's messages only if it fails.
define install
set -o pipefail; $(1)/bin/python -m pip install --disable-pip-version-check --requirement $(2) 2>$(1)/install.log \
  | awk '/^Collecting/ { printf "."; fflush() } /^Installing collected/ { printf " unpacking"; fflush() } END { print "" }' \
  || { cat $(1)/install.log >&2; exit 1; }
endef

.DEFAULT_GOAL := help
.PHONY: help setup demo serve viewer test tests torch smoke bench lint synth openapi tables lock licences sbom audit clean tools

help: ## List the targets.
	@grep -E '^[a-z]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.ready node_modules/.ready $(MINISTACK)/.ready ## Install everything that the other targets need.

demo: setup ## Run the whole system locally on real DICOM files, and show what it did.
	@$(RUN)/python -m local.demo

serve: setup ## Run the same local system until Ctrl-C, with curl lines to try.
	@$(RUN)/python -m local.serve

viewer: setup ## Run OHIF on the local system until Ctrl-C, with a login page: one URL to open.
	@$(RUN)/python -m local.viewer

smoke: $(VENV)/.ready ## Check a real deployment: every route and export once, for stack=… and image_set=….
	@$(RUN)/python -m smoke --stack $(or $(stack),Framegate) $(if $(image_set),--image-set $(image_set))

# Linters and tests run at the same time, because the tests wait for much of their time.
test: setup $(READERS)/.ready ## Lint, type-check and run every test.
	@$(MAKE) --no-print-directory -j2 lint tests

tests: $(VENV)/.ready
	@$(RUN)/python -m pytest

torch: $(READERS)/.ready ## Install a CPU build of torch and MONAI, where pip finds one, for the tests of the training examples.
	@$(READERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/readers/torch.txt

bench: setup ## Measure Framegate in about ten minutes: a table, bench/results.json and bench/results.png.
	@$(RUN)/python -m bench

lint: $(VENV)/.ready ## Only the linter and the type checker.
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .
	@$(RUN)/mypy lambda_src infra local bench smoke audit app.py

synth: setup ## Write the CloudFormation template to cdk.out/, for datastore_ids=… or an example.
	@node_modules/.bin/cdk synth --quiet -c datastore_ids=$(or $(datastore_ids),$(shell printf '0%.0s' $$(seq 32)))
	@ls cdk.out/*.template.json

openapi: $(VENV)/.ready ## Write docs/openapi.json, the description of the REST API.
	@$(RUN)/python -m infra.openapi >$(VENV)/openapi.json && mv $(VENV)/openapi.json docs/openapi.json

tables: $(VENV)/.ready ## Write the generated tables of docs/: routes, configuration keys, costs, scaling.
	@$(RUN)/python -m bench.documents

lock: $(VENV)/.ready ## Resolve the *.in files into pinned requirements with hashes.
	@cd lambda_src && ../$(RUN)/uv pip compile -q --no-python-downloads --generate-hashes --custom-compile-command "make lock" \
	  --python-version 3.13 --python-platform aarch64-manylinux2014 -o requirements.txt requirements.in
	@cd lambda_src && ../$(RUN)/uv pip compile -q --no-python-downloads --generate-hashes --custom-compile-command "make lock" \
	  --python-version 3.13 --python-platform aarch64-manylinux2014 -o decoder-requirements.txt decoder-requirements.in
	@cd lambda_src && ../$(RUN)/uv pip compile -q --no-python-downloads --generate-hashes --custom-compile-command "make lock" \
	  --python-version 3.13 --python-platform aarch64-manylinux2014 -o rendering-requirements.txt rendering-requirements.in
	@cd lambda_src && ../$(RUN)/uv pip compile -q --no-python-downloads --generate-hashes --custom-compile-command "make lock" \
	  --python-version 3.13 --python-platform aarch64-manylinux2014 -o authorizer-requirements.txt authorizer-requirements.in
	@cd lambda_src && ../$(RUN)/uv pip compile -q --no-python-downloads --generate-hashes --custom-compile-command "make lock" \
	  --python-version 3.13 --python-platform aarch64-manylinux2014 -o table-requirements.txt table-requirements.in
	@$(RUN)/uv pip compile -q --no-python-downloads --generate-hashes --custom-compile-command "make lock" \
	  --universal --python-version 3.11 -o requirements.txt requirements.in
	@cd local && ../$(RUN)/uv pip compile -q --no-python-downloads --generate-hashes --custom-compile-command "make lock" \
	  --universal --python-version 3.11 -o ministack-requirements.txt ministack-requirements.in
	@cd tests/readers && ../../$(RUN)/uv pip compile -q --no-python-downloads --generate-hashes --custom-compile-command "make lock" \
	  --universal --python-version 3.11 -o requirements.txt requirements.in
	@cd audit && ../$(RUN)/uv pip compile -q --no-python-downloads --generate-hashes --custom-compile-command "make lock" \
	  --universal --python-version 3.11 -o requirements.txt requirements.in

licences: $(VENV)/.ready ## Write docs/licences.md: what runs in Lambda, and under which licence.
	@$(RUN)/python -m infra.build.licences

sbom: $(VENV)/.ready ## Write a software bill of materials (CycloneDX) for each bundle and layer to sbom/.
	@$(RUN)/python -m infra.build.sbom

audit: $(VENV)/.ready $(AUDIT)/.ready audit/node_modules/.ready ## Run outside security auditors over template, policies, code and API.
	@$(RUN)/python -m audit

clean: ## Remove everything that a target made.
	@rm -rf $(VENV) $(MINISTACK) $(AUDIT) $(READERS) node_modules audit/node_modules tests/openapi/node_modules tests/e2e/cornerstone/node_modules \
	  local/viewer/ohif lambda_src/*.egg-info sbom cdk.out \
	  .bundle-cache .local-cloud demo-output .*_cache .hypothesis

# The .ready files below depend on this, so that make names a missing tool in one line before it starts any work.
tools:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null || { \
	  echo "Framegate needs Python 3.11 to 3.14, but '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo 'not installed'). Install one of these versions, or name one: make PYTHON=/path/to/python3.13 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Framegate needs Python's venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || { \
	  echo "Framegate needs Node.js 20 or newer for the CDK, but node is $$(node --version 2>/dev/null || echo 'not installed'). Install it, then run make again." >&2; exit 1; }
	@command -v npm >/dev/null || { \
	  echo "Framegate needs npm, which comes with Node.js; install it, then run make again." >&2; exit 1; }

$(VENV)/.ready: requirements.txt pyproject.toml | tools
	@echo "Installing Python packages into $(VENV), in a few minutes"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(call install,$(VENV),requirements.txt)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(MINISTACK)/.ready: local/ministack-requirements.txt | tools
	@echo "Installing MiniStack into $(MINISTACK)"
	@$(PYTHON) -m venv --clear $(MINISTACK)
	@$(call install,$(MINISTACK),$<)
	@touch $@

$(AUDIT)/.ready: audit/requirements.txt | tools
	@echo "Installing the auditors into $(AUDIT)"
	@$(PYTHON) -m venv --clear $(AUDIT)
	@$(call install,$(AUDIT),$<)
	@touch $@

$(READERS)/.ready: tests/readers/requirements.txt | tools
	@echo "Installing readers of DICOM files, for the tests"
	@$(PYTHON) -m venv --clear $(READERS)
	@$(call install,$(READERS),$<)
	@touch $@

# Without install scripts: one package of Spectral's reports each installation to its maker.
audit/node_modules/.ready: audit/package.json audit/package-lock.json | tools
	@echo "Installing Spectral into audit/node_modules"
	@npm ci --silent --no-progress --ignore-scripts --prefix audit
	@touch $@

node_modules/.ready: package.json package-lock.json | tools
	@echo "Installing the CDK command line into node_modules"
	@npm ci --silent --no-progress
	@touch $@
