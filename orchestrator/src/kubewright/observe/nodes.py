# SPDX-License-Identifier: Apache-2.0
"""The cluster's Node objects, through an API server that lives."""

from __future__ import annotations

import base64
import binascii
import json
import ssl
from collections.abc import Mapping
from typing import Any

from kubewright.agreed import inventory
from kubewright.observe.credentials import identify, trusting
from kubewright.observe.direct import NoAnswer, told
from kubewright.observe.model import Condition, Node

#: kubeadm's label on control planes.
CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
PATH = "/api/v1/nodes"
#: For the whole answer. A Node that lists fifty images has about 20 kB.
SECONDS = 10.0


class NodesError(Exception):
    """The nodes could not be read; the message says why."""


async def read(kubeconfig: Mapping[str, Any]) -> tuple[Node, ...]:
    """Return the nodes by name, asked with a kubeconfig whose certificates are embedded.

    :raises NodesError: the API server did not answer as it should.
    """
    try:
        cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
        items = _items(await _get(cluster, _context(cluster, user)))
    except NoAnswer as error:
        raise NodesError(str(error)) from error
    except KeyError as error:
        raise NodesError(f"the kubeconfig or the answer has no {error}") from error
    except (OSError, ValueError, binascii.Error) as error:
        raise NodesError((str(error) or repr(error)).splitlines()[0]) from error
    return tuple(sorted((node(item) for item in items), key=lambda found: found.name))


async def _get(cluster: Mapping[str, Any], context: ssl.SSLContext) -> bytes:
    """Return the API's list of nodes, as it came.

    By the client alone: its models of the API's objects take a second of processor time to import,
    and all else of a ``status`` as long. It is given a connection, since by itself it wants
    certificates as files, and asks proxies.
    """
    from aiohttp import TCPConnector
    from kubernetes.aio.client import ApiClient, Configuration

    with told(SECONDS):
        async with TCPConnector(ssl=context) as connector:
            settings = Configuration(
                tls_server_name=cluster.get("tls-server-name"),
                ca_cert_data=_decoded(cluster["certificate-authority-data"]),
                client_session_kwargs={"connector": connector, "trust_env": False},
            )
            async with ApiClient(settings) as client:
                answer = await client.call_api(
                    "GET", f"{cluster['server']}{PATH}", _request_timeout=SECONDS
                )
                content = bytes(await answer.read())
    if answer.status != 200:
        raise NodesError(f"the API server answers with HTTP status {answer.status}")
    return content


def _context(cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    """Trust the cluster's CA alone, and identify as the user. Nothing is written to a file."""
    context = trusting(_decoded(cluster["certificate-authority-data"]))
    parts = (user["client-certificate-data"], user["client-key-data"])
    identify(context, b"\n".join(base64.b64decode(part) for part in parts))
    return context


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode("ascii")


def _items(content: bytes) -> list[Any]:
    data = json.loads(content)
    items = data.get("items") if isinstance(data, dict) else None
    if not isinstance(items, list):
        raise ValueError("the answer is not a list of nodes")
    return items


def node(item: Mapping[str, Any]) -> Node:
    """Return a Node object (as in the API's JSON) in our words. Pure."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = tuple(
        Condition(each["type"], each["status"], each.get("reason") or "", each.get("message") or "")
        for each in status.get("conditions") or ()
    )
    addresses = {each["type"]: each["address"] for each in status.get("addresses") or ()}
    return Node(
        name=metadata["name"],
        pool=labels.get(inventory.POOL_LABEL, ""),
        control_plane=CONTROL_PLANE_LABEL in labels,
        version=(status.get("nodeInfo") or {}).get("kubeletVersion", ""),
        ready=any(each.type == "Ready" and each.status == "True" for each in conditions),
        cordoned=bool(spec.get("unschedulable")),
        address=addresses.get("InternalIP", ""),
        conditions=conditions,
    )
