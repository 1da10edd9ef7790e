# `make up` for a cluster on this machine, `make down` to remove it, `make test` for all tests.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.venv/share/kubewright

# Where nothing compiled may be kept, Ansible compiles itself anew at each start: half of its time.
export PYTHONDONTWRITEBYTECODE :=

# What mypy has read stays outside the checkout, and is known by its content.
export MYPY_CACHE_DIR := $(or $(KUBEWRIGHT_CACHE_DIR),$(HOME)/.cache/kubewright)/mypy

.PHONY: help
help: ## What can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

.PHONY: install
install: ## Packages, a Python environment in .venv, the collection linked into it
	@tools/install.sh

.PHONY: up
up: install ## A highly available Kubernetes on this machine, from source
	@tools/up.sh

.PHONY: down
down: install ## Remove it
	@kubewright destroy --yes
	@rm -f .venv/kubeconfig

.PHONY: test
test: install ## Lint, types, units, a real cluster of five nodes after a killed apply
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint unit
	@$(MAKE) --no-print-directory integration

.PHONY: lint
lint: install ## Format, lint, types, layers, role defaults, schema
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
unit: install ## Unit tests
	pytest tests/unit $(DISKS:%=--ignore=%) --numprocesses=auto

.PHONY: disks
disks: install ## Power that goes at each write, and flipped bits, on volumes of loop devices
	pytest $(DISKS)

.PHONY: molecule
molecule: install ## One machine prepared as a node, twice
	kubewright image build 1.37.2
	KUBEWRIGHT_STATE_DIR=$$(mktemp -d) molecule test

# CHAOS_SEED chooses at which points, hosts and moments an apply is killed.

# Longer tests, each of a target of its own: tests/suites.yml has when CI runs them.
DRIFT := sealed drift one_writer hung lost
TRIALS := trial
SERVERS := servers servers_refused
VOLUMES := volumes node_images
VM := vm

.PHONY: integration
integration: install ## Tests on a real cluster of their own
	kubewright image build 1.37.2
	pytest tests/integration $(CHAOS_SEED:%=--chaos-seed=%) $(patsubst %,--ignore=tests/integration/test_%.py,$(DRIFT) $(TRIALS) $(SERVERS) $(VOLUMES) $(VM))

.PHONY: servers
servers: install ## Hosts as their owners have them, by the command and by plain Ansible; refusals, resets
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(SERVERS))

.PHONY: drift
drift: install ## Maintenance, foreign changes, lost and hung machines, two commands at once, on a real cluster of their own
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(DRIFT))

.PHONY: trials
trials: install ## Broken system images on nodes, which go back by themselves, on a real cluster of their own
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(TRIALS))

.PHONY: volumes
volumes: install ## Volumes on devices, broken and full ones, images by HTTP, on a real cluster of their own
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(VOLUMES))

.PHONY: vm
vm: install ## A virtual machine with cgroup v2 and cloud-init: made, rebooted, its power cut, reset (half an hour and more)
	@tools/install.sh vm
	kubewright image build 1.37.2
	pytest $(patsubst %,tests/integration/test_%.py,$(VM))

# CHAOS has more options: see python tests/chaos --help.
.PHONY: suites
suites: install ## Those of the longer tests that recent commits can break, as many as fit into 40 minutes
	python tools/suites.py --used 0

.PHONY: chaos
chaos: install ## Kill apply once at each step of a new cluster; the next one finishes it (hours)
	kubewright image build 1.37.2
	python tests/chaos $(CHAOS_SEED:%=--seed=%) --table docs/chaos.md $(CHAOS)

.PHONY: chaos-points
chaos-points: install ## Write down anew at which points the tests' apply can be killed
	kubewright image build 1.37.2
	python tests/chaos --record tests/chaos/create.jsonl

.PHONY: by-hand
by-hand: install ## The same cluster with kubeadm by hand, timed by phase
	tests/bench/by_hand.sh

.PHONY: bench
bench: install ## Ours and by hand in turn, repeats, one change, planning: docs/bench (half an hour)
	@# Without --editable: of what is installed already, only the extra's packages are missing.
	.venv/bin/pip install --quiet 'kubewright[bench]'
	.venv/bin/python tests/bench/bench.py

.PHONY: screenshots
screenshots: install ## Pictures of the command on the cluster of cluster.yml, which must be up: docs/screens
	python tools/screenshots.py

.PHONY: dist
dist: install ## The collection's archive and the package's wheel, of one version, in dist/
	python tools/dist.py

.PHONY: defaults
defaults: install ## Write the roles' defaults from their argument specs
	python tools/role_defaults.py

.PHONY: surveys
surveys: install ## Write the surveys of AWX's job templates from the roles' argument specs
	python tools/awx_surveys.py

.PHONY: format
format: install ## Format the Python code
	ruff format .
	ruff check --fix .
