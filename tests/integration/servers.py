# SPDX-License-Identifier: Apache-2.0
"""A user's files for own hosts: a cluster.yml, or an inventory of groups; and how they are run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cluster import APPLY_LIMIT, COMMAND, REPOSITORY, VERSION, Ended, Running
from hosts import Host, Key, variables

from kubewright.image.paths import cache_dir

POOL = "web"


@dataclass(frozen=True)
class Servers:
    """Hosts and files of one cluster; ``directory`` has its files and the state.

    ``hosts_vars``: variables of single hosts, by name. ``user``: who logs in.
    """

    name: str
    directory: Path
    control_planes: Sequence[Host]
    workers: Sequence[Host]
    key: Key
    hosts_vars: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    user: str = "root"

    @property
    def hosts(self) -> list[Host]:
        return [*self.control_planes, *self.workers]

    @property
    def state(self) -> Path:
        """The cluster's own directory in the state."""
        return self.directory / "state" / self.name

    @property
    def cluster_file(self) -> Path:
        return self.directory / "command" / "cluster.yml"

    @property
    def awx_file(self) -> Path:
        """The cluster.yml of an AWX project: the key comes from elsewhere."""
        return self.directory / "awx" / "cluster.yml"

    @property
    def inventory(self) -> Path:
        return self.directory / "plain" / "hosts.yml"

    def environment(self) -> dict[str, str]:
        """The caller's environment, with a state of this cluster's own."""
        return {
            **os.environ,
            "KUBEWRIGHT_STATE_DIR": str(self.directory / "state"),
            "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8",
        }

    def write(self) -> None:
        """Write both kinds of files."""
        spec = {
            "plugin": "kubewright.cluster.spec",
            "name": self.name,
            "version": VERSION,
            "ssh": {"user": self.user, "private_key_file": str(self.key.private)},
            "control_plane": {"provider": "static", "nodes": _nodes(self.control_planes)},
            "pools": [{"name": POOL, "provider": "static", "nodes": _nodes(self.workers)}],
        }
        inventory = {
            "all": {
                "children": {
                    "control_plane": {"hosts": _hosts(self.control_planes)},
                    f"pool_{POOL}": {"hosts": _hosts(self.workers)},
                },
            }
        }
        known = self.directory / "known_hosts"
        known.parent.mkdir(parents=True, exist_ok=True)
        known.write_text("".join(_known(host) for host in self.hosts))
        plain = {
            "kubewright_cluster_name": self.name,
            "kubewright_version": VERSION,
            "kubewright_image_dir": str(cache_dir() / "images"),
            "ansible_user": self.user,
            "ansible_become": self.user != "root",
            "ansible_ssh_private_key_file": str(self.key.private),
            # In place of the user's own file, which is nothing of a test's.
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
        }
        _write(self.cluster_file, spec)
        _write(self.cluster_file.parent / "group_vars/all.yml", variables())
        _write(self.awx_file, {**spec, "ssh": {"user": self.user}})
        _write(self.awx_file.parent / "group_vars/all.yml", variables())
        _write(self.inventory, inventory)
        _write(self.inventory.parent / "group_vars/all.yml", {**variables(), **plain})
        for name, told in self.hosts_vars.items():
            for file in (self.cluster_file, self.inventory):
                _write(file.parent / "host_vars" / f"{name}.yml", told)

    def command(self, *words: str, limit: float = APPLY_LIMIT) -> Ended:
        """Run the command to its end."""
        running = Running([str(COMMAND), *words], self.cluster_file.parent, self.environment())
        return running.ended(limit)


@dataclass(frozen=True)
class PlainAnsible:
    """An environment as of somebody who has Ansible, and installed the collection from its archive.

    The Python package kubewright is not in it.
    """

    directory: Path

    def make(self) -> None:
        """Build the archive, install it, and make the environment."""
        here = REPOSITORY / ".venv/bin"
        python = self.directory / "venv/bin/python"
        run = [
            [here / "ansible-galaxy", "collection", "build", "--output-path", self.directory],
            [here / "uv", "venv", "--quiet", self.directory / "venv"],
            [
                # All of it has come with what the tests themselves are run by.
                *(here / "uv", "--offline", "pip", "install", "--quiet", "--python", python),
                *(
                    "ansible-core>=2.19,<2.20",
                    "ansible-runner",
                    "-r",
                    REPOSITORY / "requirements.txt",
                ),
            ],
        ]
        for command in run:
            _check([str(word) for word in command], REPOSITORY)
        archive = next(self.directory.glob("kubewright-cluster-*.tar.gz"))
        galaxy = [str(python.parent / "ansible-galaxy"), "collection", "install"]
        # Forced, since one may lie on the path of who runs the tests.
        where = ["--collections-path", str(self.directory), "--offline", "--no-deps", "--force"]
        _check([*galaxy, str(archive), *where], self.directory)
        assert (self.directory / "ansible_collections/kubewright/cluster/playbooks").is_dir()
        assert "kubewright" not in _check(
            [str(here / "uv"), "pip", "list", "--python", str(python)], self.directory
        )

    def play(self, servers: Servers, playbook: str, *words: str) -> Ended:
        """Run a playbook of the collection on the plain inventory."""
        command = [str(self.directory / "venv/bin/ansible-playbook"), "-i", str(servers.inventory)]
        environment = {
            **servers.environment(),
            "ANSIBLE_COLLECTIONS_PATH": str(self.directory),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        }
        words = (f"kubewright.cluster.{playbook}", *words)
        return Running([*command, *words], self.directory, environment).ended(APPLY_LIMIT)


def _known(host: Host) -> str:
    """Its line of known_hosts, by the address that Ansible connects to."""
    *mark, kind, text = host.key.split()
    return " ".join([*mark[:1], host.address, kind, text]) + "\n"


def _nodes(hosts: Sequence[Host]) -> list[dict[str, Any]]:
    return [{"name": host.name, "address": host.address, "host_keys": [host.key]} for host in hosts]


def _hosts(hosts: Sequence[Host]) -> dict[str, dict[str, str]]:
    return {host.name: {"ansible_host": host.address} for host in hosts}


def _write(path: Path, data: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(data), sort_keys=False))


def _check(command: Sequence[str], directory: Path) -> str:
    uv = {"UV_DEFAULT_INDEX": os.environ["PIP_INDEX_URL"]} if "PIP_INDEX_URL" in os.environ else {}
    done = subprocess.run(
        command,
        cwd=directory,
        env={**uv, **os.environ},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout
