# SPDX-License-Identifier: Apache-2.0
"""Where the files of a cluster lie on the controller."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubewright import agreed


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
        return cls(agreed.state.root(environ) / cluster)

    @property
    def machines(self) -> Path:
        """What the providers said at the last listing."""
        return self.state / agreed.state.MACHINES

    @property
    def known_hosts(self) -> Path:
        """The SSH host keys of the machines, from the same listing."""
        return self.state / agreed.state.KNOWN_HOSTS

    @property
    def ssh_key(self) -> Path:
        """The private key that opens the machines."""
        return self.state / "ssh" / "id_ed25519"

    @property
    def identity(self) -> Path:
        """Authorities of the cluster; below it the layout of /etc/kubernetes."""
        return self.state / agreed.state.IDENTITY

    @property
    def pki(self) -> Path:
        """The authorities' certificates and keys, named as below /etc/kubernetes/pki."""
        return self.identity / agreed.identity.PKI

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
        return self.state / agreed.state.STORE

    @property
    def record(self) -> Path:
        """Which file the cluster is of, its ids, and the providers that it has ever used."""
        return self.state / agreed.state.RECORD

    @property
    def roster(self) -> Path:
        """How to reach machines that the file does not have any more, and who goes first."""
        return self.state / agreed.state.ROSTER

    @property
    def images(self) -> Path:
        """Which system images the nodes were given."""
        return self.state / "images.json"

    @property
    def lock(self) -> Path:
        """Held by the one operation that may run."""
        return self.state / agreed.state.LOCK

    @property
    def journal(self) -> Path:
        """One line before and one after each run."""
        return self.state / "journal.jsonl"

    @property
    def control_sockets(self) -> Path:
        """Directory of ssh's control sockets: its name depends on the state directory alone."""
        digest = hashlib.sha256(os.fsencode(self.state)).hexdigest()[:8]
        return Path("~/.ansible/kw").expanduser() / digest
