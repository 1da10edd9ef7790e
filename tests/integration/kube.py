# SPDX-License-Identifier: Apache-2.0
"""The cluster as its API shows it, through a kubeconfig that the command printed."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.client.exceptions
import kubernetes.config
import urllib3.exceptions
import yaml
from waiting import NotYet

#: How long a join token may live.
TOKEN_LIFE = timedelta(minutes=15)

_SILENCE = (urllib3.exceptions.HTTPError, OSError)


@contextmanager
def tolerant() -> Iterator[None]:
    """Within a wait: an API server that does not answer, or answers 5xx, is "not yet".

    One that has just started says 401 and 403 until it has read users' roles.
    """
    try:
        yield
    except kubernetes.client.exceptions.ApiException as error:
        if error.status in (400, 404, 409, 422):
            raise
        raise NotYet(f"the API said {error.status} {error.reason}") from error
    except _SILENCE as error:
        raise NotYet(f"the API did not answer: {error}") from error


class Kube:
    """Clients of one kubeconfig file, and kubectl with it."""

    def __init__(self, kubeconfig: Path, kubectl: Path) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = kubectl
        configuration: Any = kubernetes.client.Configuration()
        configuration.retries = False
        load: Any = kubernetes.config.load_kube_config
        load(str(kubeconfig), client_configuration=configuration)
        client = kubernetes.client.ApiClient(configuration)
        # Any: every field of its models may be None, and a test that meets one fails anyway.
        self.core: Any = kubernetes.client.CoreV1Api(client)
        self.apps: Any = kubernetes.client.AppsV1Api(client)
        self.coordination: Any = kubernetes.client.CoordinationV1Api(client)
        self.version: Any = kubernetes.client.VersionApi(client)

    @property
    def entry(self) -> dict[str, Any]:
        """The kubeconfig's cluster: server, tls-server-name and so on."""
        document = yaml.safe_load(self.kubeconfig.read_text())
        found: dict[str, Any] = document["clusters"][0]["cluster"]
        return found

    def credentials(self) -> dict[str, bytes]:
        """The administrator's credentials as PEM files, by name: ca.crt, client.crt, client.key."""
        user = yaml.safe_load(self.kubeconfig.read_text())["users"][0]["user"]
        return {
            "ca.crt": base64.b64decode(self.entry["certificate-authority-data"]),
            "client.crt": base64.b64decode(user["client-certificate-data"]),
            "client.key": base64.b64decode(user["client-key-data"]),
        }

    def kubectl(self, *arguments: str, limit: float = 30, input: str | None = None) -> str:
        """Run kubectl and return its stdout."""
        result = subprocess.run(
            [str(self._kubectl), f"--kubeconfig={self.kubeconfig}", *arguments],
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
            input=input,
        )
        assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout


@dataclass(frozen=True)
class Node:
    """What a Node object says; ``renewed`` is when its kubelet last renewed its lease."""

    name: str
    ready: bool
    version: str
    provider_id: str
    labels: dict[str, str]
    renewed: datetime | None


def nodes(kube: Kube) -> dict[str, Node]:
    """Return all nodes by name."""
    leases = kube.coordination.list_namespaced_lease("kube-node-lease", _request_timeout=5).items
    renewed = {lease.metadata.name: lease.spec.renew_time for lease in leases}
    found = {}
    for item in kube.core.list_node(_request_timeout=5).items:
        conditions = {entry.type: entry.status for entry in item.status.conditions or []}
        found[item.metadata.name] = Node(
            name=item.metadata.name,
            ready=conditions.get("Ready") == "True",
            version=item.status.node_info.kubelet_version,
            provider_id=item.spec.provider_id or "",
            labels=dict(item.metadata.labels or {}),
            renewed=renewed.get(item.metadata.name),
        )
    return found


def all_ready(
    kube: Kube, names: frozenset[str], since: datetime | None = None
) -> Callable[[], dict[str, Node]]:
    """A look for exactly ``names``, all Ready; with ``since``, heard from after that moment.

    A node that lost power stays Ready in the API for 40 seconds: only its lease tells.
    """

    def look() -> dict[str, Node]:
        with tolerant():
            seen = nodes(kube)
        heard = {
            node.name
            for node in seen.values()
            if node.ready and (since is None or (node.renewed is not None and node.renewed > since))
        }
        if set(seen) != names or heard != names:
            raise NotYet(f"Ready of {sorted(seen)}: {sorted(heard)}")
        return seen

    return look


def not_ready(kube: Kube, name: str) -> Callable[[], None]:
    """A look for a node that the cluster knows to be gone."""

    def look() -> None:
        with tolerant():
            if nodes(kube)[name].ready:
                raise NotYet(f"{name} is Ready")

    return look


def available(
    kube: Kube, namespace: str, name: str, since: datetime | None = None
) -> Callable[[], None]:
    """A look for a Deployment with all its replicas available.

    With ``since``, their containers must have started after that moment: after a power cut the API
    says for a while what was true before it.
    """

    def look() -> None:
        with tolerant():
            deployment = kube.apps.read_namespaced_deployment(name, namespace, _request_timeout=5)
            wanted, status = deployment.spec.replicas, deployment.status
            if status.observed_generation != deployment.metadata.generation or (
                (status.available_replicas or 0) < wanted
            ):
                raise NotYet(f"{status.available_replicas or 0} of {wanted} of {name} available")
            labels = deployment.spec.selector.match_labels
            selector = ",".join(f"{key}={value}" for key, value in labels.items())
            pods = kube.core.list_namespaced_pod(
                namespace, label_selector=selector, _request_timeout=5
            ).items
        fresh = [pod for pod in pods if since is None or _running_since(pod, since)]
        if len(fresh) < wanted:
            raise NotYet(f"{len(fresh)} of {wanted} pods of {name} run again")

    return look


def join_tokens(kube: Kube) -> dict[str, tuple[datetime, datetime | None]]:
    """Return the bootstrap tokens that are left: ids, when they were made, when they expire."""
    secrets = kube.core.list_namespaced_secret(
        "kube-system", field_selector="type=bootstrap.kubernetes.io/token", _request_timeout=5
    ).items
    found = {}
    for secret in secrets:
        expiration = (secret.data or {}).get("expiration")
        found[secret.metadata.name.removeprefix("bootstrap-token-")] = (
            secret.metadata.creation_timestamp,
            datetime.fromisoformat(base64.b64decode(expiration).decode()) if expiration else None,
        )
    return found


def no_join_token_is_left(kube: Kube, since: datetime) -> None:
    """Fail where a token was made after ``since``, or lives for longer than one may.

    A run that was killed before could not take its tokens back: they end by themselves.
    """
    tokens = join_tokens(kube)
    left = {name for name, (made, _) in tokens.items() if made > since}
    assert not left, tokens
    for made, expires in tokens.values():
        assert expires is not None, tokens
        assert expires - made <= TOKEN_LIFE + timedelta(minutes=1), tokens


def now() -> datetime:
    """The moment, as the API writes it."""
    return datetime.now(UTC)


def _running_since(pod: Any, moment: datetime) -> bool:
    states = [status.state.running for status in pod.status.container_statuses or []]
    return bool(states) and all(state and state.started_at >= moment for state in states)
