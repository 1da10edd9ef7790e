# SPDX-License-Identifier: Apache-2.0
"""Where things lie on the controller: state, and the collection that came with the package."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Overrides the directory below which each cluster has its own.
STATE_VARIABLE = "KUBEWRIGHT_STATE_DIR"


def state_root(environ: Mapping[str, str] | None = None) -> Path:
    """Return the absolute directory that holds one directory per cluster.

    ``KUBEWRIGHT_STATE_DIR``, else ``$XDG_STATE_HOME/kubewright``, else
    ``~/.local/state/kubewright`` (XDG Base Directory Specification, which says to ignore relative
    paths in its variables).
    """
    env = os.environ if environ is None else environ
    own = env.get(STATE_VARIABLE)
    if own:
        return Path(own).expanduser().absolute()
    xdg = env.get("XDG_STATE_HOME", "")
    base = Path(xdg) if xdg.startswith("/") else Path("~/.local/state").expanduser()
    return base / "kubewright"


def collections_path(prefix: str | None = None) -> Path:
    """Return what to put on Ansible's collections path for the collection of this version."""
    return Path(sys.prefix if prefix is None else prefix) / "share" / "kubewright"


def collection_dir(prefix: str | None = None) -> Path:
    """Return the directory of the collection ``kubewright.cluster`` that came with this package."""
    return collections_path(prefix) / "ansible_collections" / "kubewright" / "cluster"


@dataclass(frozen=True)
class ClusterPaths:
    """The files of one cluster below its state directory (mode 0700).

    ``control_sockets`` lies elsewhere: a UNIX socket's path may have 107 bytes (unix(7)) and ssh
    appends 17 to it while connecting, so it has to be short however deep the state directory is.
    """

    state: Path

    @classmethod
    def of(cls, cluster: str, environ: Mapping[str, str] | None = None) -> ClusterPaths:
        """Return the paths of the cluster of that name."""
        return cls(state_root(environ) / cluster)

    @property
    def machines(self) -> Path:
        """What the providers said at the last listing."""
        return self.state / "machines.json"

    @property
    def known_hosts(self) -> Path:
        """The SSH host keys of the machines, from the same listing."""
        return self.state / "known_hosts"

    @property
    def ssh_key(self) -> Path:
        """The private key that opens the machines."""
        return self.state / "ssh" / "id_ed25519"

    @property
    def identity(self) -> Path:
        """Authorities of the cluster; below it the layout of /etc/kubernetes."""
        return self.state / "identity"

    @property
    def pki(self) -> Path:
        """The authorities' certificates and keys, named as below /etc/kubernetes/pki."""
        return self.identity / "pki"

    @property
    def kubeconfig(self) -> Path:
        """Administrator credentials (mode 0600)."""
        return self.state / "kubeconfig"

    @property
    def runs(self) -> Path:
        """One directory per run."""
        return self.state / "runs"

    @property
    def reads(self) -> Path:
        """One directory for each of the newest runs that only read."""
        return self.state / "reads"

    @property
    def store(self) -> Path:
        """Epoch and other numbers that must survive."""
        return self.state / "store.json"

    @property
    def record(self) -> Path:
        """Which file the cluster is of, its ids, and the providers that it has ever used."""
        return self.state / "record.json"

    @property
    def images(self) -> Path:
        """Which system images the nodes were given."""
        return self.state / "images.json"

    @property
    def lock(self) -> Path:
        """Held by the one operation that may run."""
        return self.state / "lock"

    @property
    def journal(self) -> Path:
        """One line before and one after each run."""
        return self.state / "journal.jsonl"

    @property
    def control_sockets(self) -> Path:
        """Directory of ssh's control sockets: its name depends on the state directory alone."""
        digest = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:8]
        return Path("~/.ansible/kw").expanduser() / digest
