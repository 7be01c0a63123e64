# Targets of clustered.openvpn. Each one installs its requirements; only make and git have to be there.
# PACKAGES= (empty) leaves the Debian packages alone: those of tools/packages.txt must be installed then.

SHELL := /bin/bash
.DEFAULT_GOAL := help

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export LC_ALL := C.UTF-8
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(CURDIR)/.cache/ansible
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache/collections
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis
export PACKAGES ?= tools/packages.txt
# The project has no public home yet: an example. `make project-url PROJECT_URL=https://...` writes yours into all files.
PROJECT_URL ?= https://example.com/clustered-openvpn

collection := .cache/collections/ansible_collections/clustered/openvpn
# Programs that a test starts must find the collection too.
importable := PYTHONPATH=$(CURDIR)/.cache/collections
# So many files at a time, in their order.
at_once = --numprocesses $(1) --dist loadfile --no-loadscope-reorder
# TESTS, or all of a target, and K: a file alone has no need of further processes.
selected = $(if $(TESTS),$(TESTS),$(if $(1),$(call at_once,$(1))) $(2)) $(if $(K),-k "$(K)")
# The slowest tests: whole sites, bundles, several hosts, legacy kernels, killed runs.
site_tests := $(wildcard $(addprefix tests/integration/test_,site*.py bundle*.py legacy*.py many_hosts.py engines.py killed.py))
compile := uv pip compile --quiet --annotation-style line --custom-compile-command "make requirements" $(UPGRADE)
# `make trixie` runs it, beside `make site` in `make test`: two processes and one. `make soak` runs it with ansible-core 2.19.
trixie_tests := tests/integration/test_site.py
# antsibull leaves a log in the home directory.
at_home := HOME=$(CURDIR)/.cache/home
lints := lint-ansible lint-yaml lint-python lint-types lint-shell lint-docs lint-wording lint-roles lint-changelog lint-requirements lint-project-url
targets := help demo demo-bundle test lint unit sanity integration site trixie lab soak molecule explore build bench format requirements \
	changelog project-url setup clean

.PHONY: $(targets) $(lints) demo-test
.NOTPARALLEL:

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: setup ## build a cluster on this machine and let real clients use it (root; MEMBERS=4, DISTRIBUTION=flood, UPLINK=bridged)
	@demo/run

demo-bundle: setup ## two sites and four tunnels on this machine: how much they carry, and one frozen (root)
	@demo/bundle

test: setup ## all of: lint unit sanity demo build integration molecule lab site trixie (root)
	@tools/stages --count lint,unit,sanity,demo-test build integration molecule lab site,trixie

lint: setup ## Ansible, YAML, Python, types, shell, docs and changelog
	@tools/stages $(lints)

unit: setup ## tests of the pure code (TESTS="files or node ids" K="part of a name", also for the next four)
	$(importable) pytest $(call selected,,tests/unit)

sanity: setup ## ansible-test sanity
	@tools/sanity

integration: setup ## tests on the real kernel, in namespaces of their own (root)
	@[ "$$(id -u)" -eq 0 ] || { echo "make integration: network namespaces need root" >&2; exit 1; }
	$(importable) pytest $(call selected,3,tests/integration $(addprefix --ignore=,$(site_tests)))
	$(if $(TESTS)$(K),,$(importable) MODULE_PYTHON=/usr/bin/python3 pytest tests/integration/test_modules.py)

site: setup ## longer ones: playbooks with real clients, bundles, many hosts, CLUSTERIP on a kernel of its own (root)
	@[ "$$(id -u)" -eq 0 ] || { echo "make site: network namespaces need root" >&2; exit 1; }
	$(importable) pytest $(call selected,2,$(filter-out $(trixie_tests),$(site_tests)))

lab: setup ## tests on hosts with systemd: reboots, failover, engines; see tests/lab/README.md (root; SUITE=trixie)
	@[ "$$(id -u)" -eq 0 ] || { echo "make lab: namespaces and containers need root" >&2; exit 1; }
	pytest $(call selected,2,tests/lab)

trixie: setup ## unit, sanity and test_site.py on Debian 13 with the newest ansible-core (root)
	@[ "$$(id -u)" -eq 0 ] || { echo "make trixie: a container needs root" >&2; exit 1; }
	@tools/trixie

soak: setup ## lab and site with their long tests: killed runs, many members, reboots one by one (root; KILLS=20, MEMBERS=16)
	@[ "$$(id -u)" -eq 0 ] || { echo "make soak: namespaces and containers need root" >&2; exit 1; }
	$(importable) pytest -m 'soak or not soak' $(call selected,2,tests/lab $(site_tests))

molecule: setup ## every role on hosts of the lab, see molecule/README.md (root; SCENARIO=pki, SUITE=trixie, COMMAND=converge)
	@[ "$$(id -u)" -eq 0 ] || { echo "make molecule: namespaces and containers need root" >&2; exit 1; }
	$(if $(SCENARIO)$(COMMAND),molecule $(or $(COMMAND),test) --no-command-borders $(if $(SCENARIO),--scenario-name $(SCENARIO),--all) </dev/null,tools/molecule)

explore: setup ## random topologies, kills and input (root; TOPOLOGIES=100 KILLS=200 EXAMPLES=2000)
	$(importable) KILLS=$${KILLS:-200} pytest tests/integration/test_killed.py
	$(importable) EXAMPLES=$${EXAMPLES:-2000} pytest tests/integration/test_bad_input.py -k whatever
	$(importable) TOPOLOGIES=$${TOPOLOGIES:-40} pytest tests/integration/test_honest_steps.py

build: setup ## the archive that ansible-galaxy installs, in .cache/build, imported as a Galaxy server does
	ansible-galaxy collection build --force --output-path .cache/build
	@tools/galaxy_import

bench: setup ## measure (root; MEMBERS=256)
	@[ -e tests/bench/run.py ] || { echo "make bench: there is no tests/bench/run.py, so nothing was measured" >&2; exit 1; }
	$(importable) python tests/bench/run.py

format: setup ## format Python code as lint requires
	ruff check --fix --exit-zero
	ruff format

requirements: setup ## compile requirements*.in into requirements*.txt (UPGRADE=--upgrade)
	$(compile) --python-version 3.11 requirements.in --output-file requirements.txt
	$(compile) --python-version 3.13 requirements-newest.in --output-file requirements-newest.txt

changelog: setup ## refresh the descriptions of plugins and roles in CHANGELOG.rst
	$(at_home) antsibull-changelog generate --reload-plugins --refresh-plugins

project-url: ## write PROJECT_URL into all files that name it
	tools/project_url $(PROJECT_URL)

setup: ## the first step of every target: Debian packages, .venv
	@tools/setup

clean: ## remove the demo's cluster, .venv, caches, and the packages that make installed
	@tools/clean

# The demo, and nothing of it left behind.
demo-test: setup
	@result=0; demo/run || result=$$?; demo/clean || result=$$?; exit $$result

lint-ansible: setup
	ansible-lint

lint-yaml: setup
	yamllint --strict .

lint-python: setup
	ruff check
	ruff format --check

lint-types: setup
	mypy $(addprefix $(collection)/,$(wildcard plugins/module_utils plugins/filter))
	MYPYPATH=tests mypy tests/lab/__main__.py

lint-shell: setup
	shellcheck $$(git grep --untracked --files-with-matches --extended-regexp '^#!.*[ /](ba)?sh( |$$)')

lint-docs: setup
	$(at_home) antsibull-docs lint-collection-docs --plugin-docs --disallow-unknown-collection-refs .

# Tables of variables in the roles' READMEs.
lint-roles: setup
	tools/role_readme --check

lint-changelog: setup
	$(at_home) antsibull-changelog lint

# Each pin of requirements*.in is in the compiled file, neither names a server, and README.md states the tested ansible-core.
lint-requirements: setup
	@for name in requirements requirements-newest; do \
		missing=$$(comm -23 <(sed -nE 's/^([a-z0-9-]+==[^ ]+).*/\1/p' $$name.in | sort) \
			<(sed -nE 's/^([a-z0-9-]+==[^ ]+).*/\1/p' $$name.txt | sort)); \
		[ -z "$$missing" ] || { echo "$$name.txt lacks" $$missing": run \`make requirements\`" >&2; exit 1; }; \
		! grep --line-number '://' $$name.in $$name.txt || { echo "$$name: no addresses of servers" >&2; exit 1; }; \
		core=$$(sed -n 's/^ansible-core==//p' $$name.in); \
		grep --quiet --fixed-strings "$$core" README.md || { echo "README.md, requirements: ansible-core $$core is missing" >&2; exit 1; }; \
	done

lint-project-url:
	tools/project_url --check $(PROJECT_URL)

lint-wording: setup
	tools/wording
