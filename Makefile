# `make up` creates a cluster on this machine, `make down` removes it, `make test` runs all tests.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.venv/share/kubewright

# Without compiled files, Ansible compiles itself again at each start: half of its time.
export PYTHONDONTWRITEBYTECODE :=

# What mypy has read stays outside the checkout, and is known by its content.
export MYPY_CACHE_DIR := $(or $(KUBEWRIGHT_CACHE_DIR),$(HOME)/.cache/kubewright)/mypy

.PHONY: help
help: ## List these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

.PHONY: install
install: ## Install packages, and a Python environment in .venv with the collection linked into it
	@tools/install.sh

.PHONY: up
up: install ## Create a highly available Kubernetes on this machine, from source
	@tools/up.sh

.PHONY: down
down: install ## Remove that cluster
	@kubewright destroy --yes
	@rm -f .venv/kubeconfig

.PHONY: test
test: install ## Run lint, types, unit tests, and a real five-node cluster after a killed apply
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint unit
	@$(MAKE) --no-print-directory integration

.PHONY: lint
lint: install ## Check format, lint, types, layers, role defaults and schema
	ruff format --check .
	ruff check .
	mypy
	mypy tools tests/integration/*.py tests/vm/*.py tests/chaos/*.py tests/chaos/callback/*.py tests/bench/*.py
	@# The collection's modules are checked under their full names, as Ansible imports them, and for the oldest Python of nodes.
	cd .venv/share/kubewright && MYPYPATH=$$PWD mypy --config-file $(CURDIR)/mypy.ini --cache-dir $(MYPY_CACHE_DIR)/collection --python-version 3.10 \
		--namespace-packages --explicit-package-bases \
		$(foreach kind,module_utils modules action filter,--package ansible_collections.kubewright.cluster.plugins.$(kind))
	cd orchestrator && lint-imports
	python tools/role_defaults.py --check
	python tools/awx_surveys.py --check
	yamllint --strict .
	@# A home of its own: there is no other copy of the collection in it.
	ANSIBLE_HOME=$(CURDIR)/.venv/ansible ansible-lint --offline
	shellcheck tools/*.sh roles/*/files/*.sh tests/*/*.sh .ci/run

# Those that fill loop devices again and again.
DISKS := $(patsubst %,tests/unit/plugins/image/test_%.py,power_loss image_verified)

.PHONY: unit
unit: install ## Run the unit tests
	pytest tests/unit $(DISKS:%=--ignore=%) --numprocesses=auto

.PHONY: disks
disks: install ## Test power loss at each write, and flipped bits, on volumes on loop devices
	pytest $(DISKS)

.PHONY: molecule
molecule: install ## Prepare one machine as a node, twice
	kubewright image build 1.37.2
	KUBEWRIGHT_STATE_DIR=$$(mktemp -d) molecule test

# CHAOS_SEED chooses at which points, hosts and moments an apply is killed.

# Longer tests, each with its own target: tests/suites.yml says when CI runs them.
DRIFT := sealed drift one_writer hung lost
TRIALS := trial
NODES := nodes
SERVERS := servers servers_refused
VOLUMES := volumes node_images
ROLLING := rolling
REMOVAL := removal
VM := vm

.PHONY: integration
integration: install ## Run tests on their own real cluster
	kubewright image build 1.37.2
	pytest tests/integration $(CHAOS_SEED:%=--chaos-seed=%) $(patsubst %,--ignore=tests/integration/test_%.py,$(DRIFT) $(TRIALS) $(SERVERS) $(NODES) $(VOLUMES) $(ROLLING) $(REMOVAL) $(VM))

.PHONY: servers
servers: install ## Test typical host setups, with the command and with plain Ansible; refusals, resets
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(SERVERS))

.PHONY: drift
drift: install ## Test maintenance, manual changes, lost and hung machines, and two commands at once, on their own real cluster
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(DRIFT))

.PHONY: nodes
nodes: install ## Test draining and rebooting nodes, on their own real cluster
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(NODES))

.PHONY: removal
removal: install ## Remove workers, living and dead ones, from their own real cluster
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(REMOVAL))

.PHONY: trials
trials: install ## Test broken system images that nodes roll back, on their own real cluster
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(TRIALS))

.PHONY: volumes
volumes: install ## Test volumes on devices, broken and full volumes, and images over HTTP, on their own real cluster
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(VOLUMES))

.PHONY: rolling
rolling: install ## A wrong setting stops at one node, a good one rolls; on a real cluster of six nodes, no request fails
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(ROLLING))

.PHONY: vm
vm: install ## Test a virtual machine with cgroup v2 and cloud-init: create, reboot, power cut, reset (half an hour or more)
	@tools/install.sh vm
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(VM))

# CHAOS has more options: see python tests/chaos --help.
.PHONY: suites
suites: install ## Run the longer tests that recent commits can break, as many as fit into 40 minutes
	python tools/suites.py --used 0

.PHONY: chaos
chaos: install ## Kill apply once at each step of a new cluster; the next apply must finish it (hours)
	kubewright image build 1.37.2
	python tests/chaos $(CHAOS_SEED:%=--seed=%) --table docs/chaos.md $(CHAOS)

.PHONY: chaos-points
chaos-points: install ## Record again at which points the tests' apply can be killed
	kubewright image build 1.37.2
	python tests/chaos --record tests/chaos/create.jsonl

.PHONY: by-hand
by-hand: install ## Create the same cluster with kubeadm by hand, timed by phase
	tests/bench/by_hand.sh

.PHONY: bench
bench: install ## Measure Kubewright and kubeadm by hand alternately: docs/bench (half an hour)
	@# Without --editable: of what is installed already, only the extra's packages are missing.
	.venv/bin/pip install --quiet 'kubewright[bench]'
	.venv/bin/python tests/bench/bench.py

.PHONY: screenshots
screenshots: install ## Take pictures of the command on the running cluster of cluster.yml: docs/screens
	python tools/screenshots.py

.PHONY: dist
dist: install ## Build the collection's archive and the package's wheel, of one version, in dist/
	python tools/dist.py

.PHONY: defaults
defaults: install ## Write the roles' defaults from their argument specs
	python tools/role_defaults.py

.PHONY: surveys
surveys: install ## Write the surveys of AWX's job templates from the roles' argument specs
	python tools/awx_surveys.py

.PHONY: messages
messages: install ## List every message and help text in tests/data/messages.txt
	python tools/messages.py

.PHONY: format
format: install ## Format the Python code
	ruff format .
	ruff check --fix .
