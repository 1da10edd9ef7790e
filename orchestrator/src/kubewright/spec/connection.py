# SPDX-License-Identifier: Apache-2.0
"""How Ansible reaches a machine: variables for its connection. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubewright.agreed import machines
from kubewright.locations import ClusterPaths
from kubewright.spec.machines import Machine
from kubewright.spec.models import Node, Spec, Ssh
from kubewright.spec.own_machines import without_comment


def shared(paths: ClusterPaths) -> dict[str, Any]:
    """Return what holds for all machines of a cluster."""
    return {
        "ansible_python_interpreter": "/usr/bin/python3",
        # Either name: the first is the ssh plugin's own, the second every connection's.
        "ansible_ssh_pipelining": True,
        "ansible_pipelining": True,
        # Where a user's ansible.cfg or environment switched it off, it would come before the
        # options that check keys below.
        "ansible_host_key_checking": True,
        # No ControlPath here: Ansible adds one, in a directory that it makes with mode 0700.
        # Keep-alives end a connection to a machine that lost power after 15 s instead of never.
        "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=60s"
        " -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
        # Three times as fast as OpenSSH's first choice where the CPU has AES; it stays the second.
        " -o Ciphers=^aes128-gcm@openssh.com",
        "ansible_control_path_dir": str(paths.control_sockets),
    }


def variables(
    name: str,
    ssh: Ssh,
    node: Node | None,
    paths: ClusterPaths,
    known: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what holds for one machine. ``node``: what the file says of a machine of one's own.

    Machines that a provider makes let root in, with the cluster's own key. ``known``: the host
    keys that the machine was listed with.
    """
    if node is None:
        return {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(paths.ssh_key),
            "ansible_ssh_common_args": _options(name, paths, only_key=True),
        }
    keys = host_keys(node)
    alias = _certified_name(keys or known) or name
    found: dict[str, Any] = {
        "ansible_host": node.address,
        "ansible_port": ssh.port,
        "ansible_user": ssh.user,
        "ansible_ssh_common_args": _options(alias, paths, only_key=bool(ssh.private_key_file)),
        "kubewright_host_keys": list(keys),
    }
    if ssh.private_key_file:
        found["ansible_ssh_private_key_file"] = ssh.private_key_file
    if ssh.user != "root":
        found["ansible_become"] = True
    return found


def command(spec: Spec, machine: Machine, paths: ClusterPaths, script: str) -> list[str]:
    """Return the ssh that runs a shell's script as root on a machine.

    It asks nobody for a password, and leaves no connection open. What it sends and reads is no
    secret.
    """
    own = next((node for node in spec.own_nodes() if node.name == machine.name), None)
    told = variables(machine.name, spec.ssh, own, paths, machine.host_keys)
    words = ["ssh", "-o", "BatchMode=yes", "-o", "ControlPath=none", "-o", "ConnectTimeout=5"]
    # OpenSSH's first choice, made to resist quantum computers, takes seven times the processor time
    # of all else here. Runs that carry keys leave it as it is.
    words += ["-o", "KexAlgorithms=^ecdh-sha2-nistp256"]
    words += shlex.split(told["ansible_ssh_common_args"])
    words += ["-l", told["ansible_user"], "-p", str(told.get("ansible_port", 22))]
    if key := told.get("ansible_ssh_private_key_file"):
        words += ["-i", str(Path(key).expanduser())]
    become = ["sudo", "-n"] if told.get("ansible_become") else []
    return [*words, "--", machine.address, shlex.join([*become, "sh", "-c", script])]


def host_keys(node: Node) -> tuple[str, ...]:
    """Return the keys that the file has, without their comments, which could hold anything."""
    return tuple(without_comment(key) for key in node.host_keys)


def _certified_name(keys: Sequence[str]) -> str:
    """Return the name that a machine's certificate is for, empty where none is spoken of."""
    words = (key.split() for key in keys)
    return next((name for mark, name, *_ in words if mark == machines.AUTHORITY), "")


def _options(name: str, paths: ClusterPaths, *, only_key: bool) -> str:
    """Return the options that check a machine's host key against our own list, under its own name.

    A percent sign starts a token in ssh's options, and blanks part their words; see ssh_config(5).
    """
    known_hosts = str(paths.known_hosts).replace("%", "%%")
    options = {
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": name,
        # Or an agent with many keys would use up the attempts that sshd allows.
        **({"IdentitiesOnly": "yes"} if only_key else {}),
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return shlex.join(words)
