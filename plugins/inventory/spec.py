# SPDX-License-Identifier: Apache-2.0
"""Inventory plugin over kubewright.spec.inventory: it only translates."""

from __future__ import annotations

DOCUMENTATION = r"""
name: spec
author: The Kubewright authors (@kubewright)
version_added: 0.1.0
short_description: The cluster described by a cluster.yml
description:
  - Builds the hosts, groups and variables of a Kubewright cluster from its C(cluster.yml).
  - >-
    Addresses and host keys come from C(machines.json) in the cluster's state directory, which the
    playbook C(kubewright.cluster.machines) writes. It is read again by C(meta: refresh_inventory).
  - >-
    Groups are C(kubewright) (all machines), its children C(control_plane) and C(workers),
    and below C(workers) one group C(pool_<name>) per pool.
  - The state directory is below E(KUBEWRIGHT_STATE_DIR), by default C(~/.local/state/kubewright).
requirements:
  - The Python package C(kubewright), in the Python that runs Ansible.
options:
  plugin:
    description: Marks the file as input for this plugin.
    type: str
    required: true
    choices: [kubewright.cluster.spec]
  name:
    description:
      - Name of the cluster, a DNS label. Host names and the API's name are derived from it.
    type: str
    required: true
  version:
    description: Kubernetes version, in quotes. "1.37" means its newest known patch release.
    type: str
    required: true
  control_plane:
    description: The machines that run the control plane.
    type: dict
    required: true
    suboptions:
      provider:
        description: Where the machines come from. The I(name) of a role C(provider_<name>).
        type: str
        required: true
      size:
        description: Number of machines.
        type: int
        choices: [1, 3, 5, 7]
      nodes: &nodes
        description:
          - Your own machines, with the provider C(static). Other providers take I(size) instead.
        type: list
        elements: dict
        suboptions:
          name:
            description: Name of the host, a DNS label.
            type: str
            required: true
          address:
            description: IPv4 address at which this machine and the other nodes reach it.
            type: str
            required: true
          host_keys:
            description:
              - Its public SSH host keys. Without them, your known_hosts file must have one.
            type: list
            elements: str
            default: []
      system_volume: &system_volume
        description: The read-only volume with everything that Kubernetes needs on these machines.
        type: dict
        suboptions:
          type:
            description: A file on the machine's disk (V(local)), or a separate device (V(block)).
            type: str
            choices: [local, block]
            default: local
          device:
            description: With V(block), a blank device, such as C(/dev/disk/by-id/...).
            type: str
          size_gb:
            description: Its size in GB (10^9 bytes), at least 20; a device may be larger.
            type: int
            default: 20
      kubelet_args: &kubelet_args
        description:
          - Fields of KubeletConfiguration for these machines. A change restarts kubelet.
        type: dict
        default: {}
      drain: &drain
        description: How these nodes are drained before a reboot, replacement or removal.
        type: dict
        suboptions:
          timeout_seconds:
            description: Time for pods to leave a node, in seconds.
            type: int
            default: 300
          on_timeout:
            description:
              - What happens then. V(wait) keeps waiting, V(force) deletes the pods regardless of
                their PodDisruptionBudgets, V(abort) leaves and uncordons the node.
            type: str
            choices: [wait, force, abort]
            default: abort
  pools:
    description: The machines that run workloads.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the pool, a DNS label. C(cp) is reserved.
        type: str
        required: true
      provider:
        description: Where the machines come from.
        type: str
        required: true
      size:
        description: Number of machines.
        type: int
      nodes: *nodes
      system_volume: *system_volume
      kubelet_args: *kubelet_args
      drain: *drain
  ssh:
    description: How to log in to your own machines (provider C(static)).
    type: dict
    suboptions:
      user:
        description: User to log in as. Any user but root needs sudo without a password.
        type: str
        default: root
      port:
        description: SSH port.
        type: int
        default: 22
      private_key_file:
        description: The only key to offer. Without it, ssh-agent and ssh's default keys are used.
        type: str
  pod_cidr:
    description: IPv4 network of the pods. Each node gets a /24 of it.
    type: str
    default: 10.244.0.0/16
  service_cidr:
    description: IPv4 network of the services.
    type: str
    default: 10.96.0.0/16
"""

EXAMPLES = r"""
# cluster.yml; try it with: ansible-inventory -i cluster.yml --graph
plugin: kubewright.cluster.spec
name: demo
version: "1.37"
control_plane: {provider: local, size: 3}
pools: [{name: web, provider: local, size: 2}]
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.template import trust_as_template
from ansible_collections.kubewright.cluster.plugins.plugin_utils import _refusal

try:
    from kubewright.image.errors import ImageError
    from kubewright.locations import ClusterPaths
    from kubewright.spec import SpecError, load
    from kubewright.spec import inventory as spec_inventory
    from kubewright.spec.images import current
    from kubewright.spec.machines import MachinesError, read
    from kubewright.spec.providers import ProviderError, find
    from kubewright.spec.version import release
    from kubewright.store import StoreError
    from kubewright.store.ownership import ForeignState, require_own
except ImportError as error:
    IMPORT_ERROR: ImportError | None = error
else:
    IMPORT_ERROR = None


class InventoryModule(BaseInventoryPlugin):  # type: ignore[misc]
    """Hosts, groups and variables of the cluster that a file describes."""

    NAME = "kubewright.cluster.spec"

    # What cluster.yml and machines.json say is text, whatever it looks like; see _code() for what
    # the collection itself wrote.
    trusted_by_default = False

    def verify_file(self, path: str) -> bool:
        """Return whether the file may be a spec, by its name; what it says is checked later."""
        return bool(super().verify_file(path)) and path.endswith((".yml", ".yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the cluster of the file to the inventory."""
        super().parse(inventory, loader, path, cache)
        try:
            self._parse(path)
        except AnsibleParserError as error:
            _refusal.refuse_inventory(path, str(error.message))
            raise
        _refusal.accept_inventory(path)

    def _parse(self, path: str) -> None:
        if IMPORT_ERROR is not None:
            if not isinstance(IMPORT_ERROR, ModuleNotFoundError):
                # The package is there, and says itself what it lacks.
                raise AnsibleParserError(f"{path}: {IMPORT_ERROR}")
            raise AnsibleParserError(
                f"{path}: the inventory plugin {self.NAME} needs the Python package kubewright "
                f"({IMPORT_ERROR}). Install it for the Python that runs Ansible: "
                f"{sys.executable} -m pip install kubewright"
            )
        try:
            self._add(_built(Path(path).resolve()))
        except (
            SpecError,
            MachinesError,
            ProviderError,
            ImageError,
            ForeignState,
            StoreError,
        ) as error:
            raise AnsibleParserError(str(error)) from error

    def _add(self, built: spec_inventory.Inventory) -> None:
        for key, value in built.variables.items():
            self.inventory.set_variable("all", key, value)
        for name, group in built.groups.items():
            self.inventory.add_group(name)
            for host in group.hosts:
                self.inventory.add_host(host, group=name)
            for key, value in group.variables.items():
                self.inventory.set_variable(name, key, value)
        for name, group in built.groups.items():
            for child in group.children:
                self.inventory.add_child(name, child)
        for host, variables in built.hosts.items():
            for key, value in variables.items():
                self.inventory.set_variable(host, key, value)


def _built(path: Path) -> spec_inventory.Inventory:
    # The providers are roles of the collection that this plugin is part of, wherever it lies.
    providers = {
        name: replace(provider, host_vars=_code(provider.host_vars))
        for name, provider in (find(Path(__file__).resolve().parents[2]) or {}).items()
    }
    spec = load(path, known_providers=providers)
    paths = ClusterPaths.of(spec.name)
    require_own(paths, spec.name, path)
    version = release(spec)
    return spec_inventory.build(
        spec,
        version=version,
        paths=paths,
        machines=read(paths.machines, spec.name),
        images=current(version),
        providers=providers,
        private_key=_file_version(spec.ssh.private_key_file),
        file=path,
    )


def _file_version(path: str | None) -> str:
    """What changes when the file is written; its content is not for us to read."""
    try:
        status = Path(path or "").expanduser().stat()
    except (OSError, RuntimeError):  # of it ssh itself says what is wrong
        return ""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _code(value: Any) -> Any:
    """Return the variables of a provider.yml, whose texts may be templates: it is code."""
    if isinstance(value, Mapping):
        return {key: _code(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_code(inner) for inner in value]
    return trust_as_template(value) if isinstance(value, str) else value
