# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Bootstrap tokens, made and deleted by kubeadm.

kubeadm makes the token itself and prints it, so that it stands in no command line. Deleting takes
the first part alone, which is public.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

# Source: k8s.io/cluster-bootstrap/token/api, BootstrapTokenPattern.
TOKEN = re.compile(r"^([a-z0-9]{6})\.[a-z0-9]{16}$", re.MULTILINE)
TOKEN_ID = re.compile(r"[a-z0-9]{6}")
PLACEHOLDER = "000000.0000000000000000"


def ids(tokens: Iterable[str]) -> list[str]:
    """The public parts of tokens, by which they are deleted."""
    return [token.partition(".")[0] for token in tokens]


@dataclass(frozen=True)
class Tokens:
    """kubeadm at *kubeadm* with the administrator's *kubeconfig*; *timeout* in seconds."""

    kubeadm: Path
    kubeconfig: Path
    run: commands.Runner
    timeout: float

    def create_each(self, names: Iterable[str], ttl_minutes: int) -> dict[str, str]:
        """A new token for each of *names*; where one can't be made, none is left."""
        made: dict[str, str] = {}
        try:
            for name in names:
                made[name] = self.create(ttl_minutes)
        except KubewrightError:
            for one in ids(made.values()):
                with contextlib.suppress(KubewrightError):  # what is told is the first failure
                    self.delete(one)
            raise
        return made

    def create(self, ttl_minutes: int) -> str:
        """A new token that expires by itself after *ttl_minutes*."""
        if ttl_minutes < 1:
            raise KubewrightError("ttl_minutes must be 1 or more: 0 is a token that never expires.")
        result = self._kubeadm("create", f"--ttl={ttl_minutes}m", "--description=kubewright join")
        if result.rc != 0:  # stdout is not shown, whatever is on it
            failed = commands.Result(
                result.argv, result.rc, "", TOKEN.sub("(token)", result.stderr)
            )
            raise commands.CommandFailed("A join token could not be created", failed)
        match = TOKEN.search(result.stdout)
        if match is None:
            raise KubewrightError(
                f"`{result.command}` printed no token. Does {self.kubeadm} have the cluster's "
                "version?"
            )
        return match[0]

    def delete(self, token_id: str) -> bool:
        """Delete a token by its public part; False when the cluster has none such."""
        if not TOKEN_ID.fullmatch(token_id):
            raise KubewrightError(
                "token_id must be the six characters before the dot of a token, nothing else."
            )
        result = self._kubeadm("delete", token_id)
        if result.rc != 0 and "not found" in result.stderr:
            return False
        commands.check(result, f"Join token {token_id} could not be deleted; it expires by itself")
        return True

    def exists(self, token_id: str) -> bool:
        """Whether the cluster has this token; False where no cluster is up yet."""
        if not self.kubeconfig.is_file():
            return False
        result = commands.check(self._kubeadm("list"), "Join tokens could not be listed")
        return any(line.startswith(f"{token_id}.") for line in result.stdout.splitlines())

    def _kubeadm(self, *arguments: str) -> commands.Result:
        if not self.kubeconfig.is_file():
            raise KubewrightError(
                f"{self.kubeconfig} is missing: this node is not a working control "
                "plane. Run the task on one that is."
            )
        command = [str(self.kubeadm), "token", f"--kubeconfig={self.kubeconfig}", *arguments]
        return self.run(command, timeout=self.timeout)
