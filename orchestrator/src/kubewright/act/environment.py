# SPDX-License-Identifier: Apache-2.0
"""The environment of ansible-playbook: the same on every machine, whatever its user has set."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from kubewright.act.refusals import FILE
from kubewright.agreed import refusals
from kubewright.collection import collections_path

#: Every process of a run has this variable, with the run's id, however it was started.
RUN_VARIABLE = "KUBEWRIGHT_RUN"
#: Hosts at once. A fork is some 60 MB while it works, and none while it does not.
FORKS = 50


def environment(run: str, directory: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what to add to the environment of a run whose private directory is given."""
    inherited = os.environ if base is None else base
    own_bin = Path(sys.prefix) / "bin"
    collections = [
        str(collections_path()),
        *inherited.get("ANSIBLE_COLLECTIONS_PATH", "").split(":"),
        str(Path("~/.ansible/collections").expanduser()),
        "/usr/share/ansible/collections",
    ]
    return {
        RUN_VARIABLE: run,
        refusals.VARIABLE: str(directory / FILE),
        # ansible-playbook of this very environment, also when it has not been activated.
        "PATH": f"{own_bin}:{inherited.get('PATH', os.defpath)}",
        # The collection of this version comes first; those of site-packages come by themselves.
        "ANSIBLE_COLLECTIONS_PATH": ":".join(dict.fromkeys(path for path in collections if path)),
        # An ansible.cfg of the user would change what every run does; theirs counts when named.
        "ANSIBLE_CONFIG": inherited.get("ANSIBLE_CONFIG", str(directory / "ansible.cfg")),
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        # ansible-runner would turn it off.
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_FORKS": inherited.get("ANSIBLE_FORKS", str(FORKS)),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_GATHERING": "explicit",
        # An inventory that can't be read is an error, not an empty inventory.
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        # Only what a cluster's inventory can be, or each other plugin adds a complaint of its own.
        "ANSIBLE_INVENTORY_ENABLED": "auto,yaml",
        "ANSIBLE_NOCOLOR": "True",
        "ANSIBLE_NOCOWS": "True",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        # Ansible refuses to start in a locale that is not UTF-8.
        "LC_ALL": "C.UTF-8",
    }
