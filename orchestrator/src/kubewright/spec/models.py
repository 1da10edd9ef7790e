# SPDX-License-Identifier: Apache-2.0
"""The fields of cluster.yml: kinds, bounds, defaults, and what to write when a value is wrong.

Field names are those of Scaleway's Kubernetes API where it has one. Rules between fields are in
:mod:`kubewright.spec.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from kubewright.agreed import names, rules

#: The inventory plugin that cluster.yml belongs to.
PLUGIN = "kubewright.cluster.spec"

#: RFC 1123 label; the upper bound of 63 is checked apart, for a message of its own.
LABEL = f"^{names.LABEL.pattern}$"

#: The largest cluster that Kubernetes is tested with has 5,000 nodes
#: (https://kubernetes.io/docs/setup/best-practices/cluster-large/).
MAX_NODES = 5000

#: What a system volume has at least, in GB (10^9 bytes).
MIN_VOLUME_GB = rules.MIN_VOLUME_BYTES // 10**9


@dataclass(frozen=True)
class Write:
    """What a person should write in this field, in words that complete "write ..."."""

    text: str


Label = Annotated[
    str,
    Field(min_length=1, max_length=names.MAX_LABEL, pattern=LABEL),
]
#: What the values of ``kubelet_args`` may be depends on their fields (``kubewright.spec.kubelet``).
KubeletArgs = Annotated[
    dict[str, Any], Write("fields of KubeletConfiguration, such as {maxPods: 120}")
]
Cidr = Annotated[str, Field(min_length=1)]
#: No blanks, which would make other words of ssh, and none of the marks of its tokens.
PLAIN_WORD = r"^[^\s{}%]+$"


#: The path of a device, in words that a systemd unit takes as they are.
DEVICE = f"^{rules.DEVICE.pattern}$"


class Strict(BaseModel):
    """Unknown fields are refused, values are never bent into shape, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def _never_null(schema: JsonDict) -> None:
    """What is left out is None here, and yet nobody may write null."""
    kinds = schema.pop("anyOf")
    assert isinstance(kinds, list) and isinstance(kinds[0], dict)
    schema.update(kinds[0])
    del schema["default"]


#: As JSON Schema: a device belongs to the type block, and to no other.
_DEVICE_OF_A_BLOCK: JsonDict = {
    "if": {"properties": {"type": {"const": "block"}}, "required": ["type"]},
    "then": {"required": ["device"]},
    "else": {"properties": {"device": False}},
}


class SystemVolume(Strict):
    """The read-only volume on each machine with everything that Kubernetes needs there."""

    model_config = ConfigDict(json_schema_extra=_DEVICE_OF_A_BLOCK)

    type: Annotated[Literal["local", "block"], Write("local (a file) or block (a device)")] = Field(
        default="local",
        description="A file on the machine's disk (local), or a separate device (block).",
        examples=["block"],
    )
    device: Annotated[
        str | None, Write("the path of a device, such as /dev/disk/by-id/virtio-system")
    ] = Field(
        default=None,
        pattern=DEVICE,
        description="With type block: the device on each of these machines. It must be "
        "blank, and is used entirely.",
        examples=["/dev/disk/by-id/virtio-system"],
        json_schema_extra=_never_null,
    )
    size_gb: Annotated[int, Write(f"a whole number of GB, {MIN_VOLUME_GB} or more")] = Field(
        default=MIN_VOLUME_GB,
        ge=MIN_VOLUME_GB,
        description="Size of the volume in GB (10^9 bytes), allocated at once; for a "
        "device, its minimum size. It can grow, but never shrink.",
        examples=[MIN_VOLUME_GB],
    )


class Node(Strict):
    """One of your own machines."""

    name: Annotated[Label, Write("lower-case letters, digits and inner hyphens, such as alpha")] = (
        Field(description="Name of the host and of the Node, a DNS label.", examples=["alpha"])
    )
    address: Annotated[str, Write("an IPv4 address, such as 192.0.2.11")] = Field(
        min_length=1,
        description="IPv4 address at which this machine and the other nodes reach it.",
        examples=["192.0.2.11"],
        json_schema_extra={"format": "ipv4"},
    )
    host_keys: Annotated[
        tuple[str, ...], Write("public SSH host keys, such as [ssh-ed25519 AAAA...]")
    ] = Field(
        default=(),
        strict=False,
        description="The machine's public SSH host keys (/etc/ssh/ssh_host_*_key.pub there). "
        "Default: look them up in the known_hosts file of the user who runs this. For signed host "
        "keys: @cert-authority, a name in the machine's certificate, and the public key of the CA.",
        examples=[
            ["ssh-ed25519 AAAA..."],
            ["@cert-authority web1.example.com ssh-ed25519 AAAA..."],
        ],
    )


class Ssh(Strict):
    """How to log in to your own machines."""

    user: Annotated[str, Write("a user name, such as root")] = Field(
        default="root",
        pattern=PLAIN_WORD,
        description="User to log in as. Any user but root needs sudo without a password.",
        examples=["root"],
    )
    port: Annotated[int, Write("a port from 1 to 65535")] = Field(
        default=22, ge=1, le=65535, description="SSH port.", examples=[22]
    )
    private_key_file: Annotated[
        str | None, Write("the path of a private key, from / or from ~/")
    ] = Field(
        default=None,
        pattern=r"^(/|~/)[^{}%\n]+$",
        description="The only key to offer. Default: ssh-agent and ssh's default keys.",
        examples=["~/.ssh/id_ed25519"],
    )


class Drain(Strict):
    """How long pods may take to leave a node, and what happens to those that don't."""

    timeout_seconds: Annotated[int, Write("a whole number of seconds, such as 300")] = Field(
        default=300,
        ge=0,
        le=86400,
        description="Time for pods to leave a node that is drained, in seconds.",
        examples=[600],
    )
    on_timeout: Annotated[Literal["wait", "force", "abort"], Write("wait, force or abort")] = Field(
        default="abort",
        description="What happens then: keep waiting (wait), delete the pods regardless of their "
        "PodDisruptionBudgets (force), or leave and uncordon the node (abort).",
        examples=["force"],
    )


def _control_plane_size(schema: JsonDict) -> None:
    _never_null(schema)
    schema["enum"] = [1, 3, 5, 7]


def _at_least_one(schema: JsonDict) -> None:
    del schema["default"]
    schema["minItems"] = 1


#: Of a place, as JSON Schema: it says how many machines, or which ones.
_SIZE_OR_NODES: JsonDict = {"oneOf": [{"required": ["size"]}, {"required": ["nodes"]}]}
Nodes = Annotated[
    tuple[Node, ...], Write("a list of machines, such as [{name: alpha, address: 192.0.2.11}]")
]
Volume = Annotated[SystemVolume, Write(f"its size, such as {{size_gb: {MIN_VOLUME_GB}}}")]
NODES = "Your own machines, with the provider static; instead of size."
VOLUME = "The system volume of these machines."
DrainPolicy = Annotated[
    Drain, Write("its fields, such as {timeout_seconds: 600, on_timeout: force}")
]
DRAIN = "How these nodes are drained before a reboot, replacement or removal."


class ControlPlane(Strict):
    """The machines that run etcd, the API server, the scheduler and the controller manager."""

    model_config = ConfigDict(json_schema_extra=_SIZE_OR_NODES)

    provider: Annotated[Label, Write("the name of a provider, such as local")] = Field(
        description="Where the machines come from: <name> of a role provider_<name>.",
        examples=["local"],
    )
    size: Annotated[int | None, Write("1, 3, 5 or 7")] = Field(
        default=None,
        ge=1,
        le=rules.MAX_CONTROL_PLANES,
        description="Number of machines. Must be odd, for etcd's quorum: 3 survive the loss of "
        "one, 5 of two.",
        examples=[3],
        json_schema_extra=_control_plane_size,
    )
    nodes: Nodes = Field(
        default=(),
        json_schema_extra=_at_least_one,
        strict=False,  # a YAML list is taken for the tuple; the nodes in it stay strict
        max_length=rules.MAX_CONTROL_PLANES,
        description=NODES,
        examples=[[{"name": "alpha", "address": "192.0.2.11"}]],
    )
    system_volume: Volume = Field(default_factory=SystemVolume, description=VOLUME)
    kubelet_args: KubeletArgs = Field(
        default_factory=dict,
        description="Fields of KubeletConfiguration for these machines. A change restarts kubelet.",
        examples=[{"maxPods": 120}],
    )
    drain: DrainPolicy = Field(default_factory=Drain, description=DRAIN)

    @property
    def count(self) -> int:
        """Number of machines."""
        return len(self.nodes) if self.size is None else self.size


class Pool(Strict):
    """Machines of one kind that run workloads."""

    model_config = ConfigDict(json_schema_extra=_SIZE_OR_NODES)

    name: Annotated[Label, Write("lower-case letters, digits and inner hyphens, such as web")] = (
        Field(
            description="Name of the pool, a DNS label other than 'cp'. "
            "Hosts are called <cluster>-<pool>-<number>.",
            examples=["web"],
            json_schema_extra={"not": {"const": "cp"}},
        )
    )
    provider: Annotated[Label, Write("the name of a provider, such as local")] = Field(
        description="Where the machines come from: <name> of a role provider_<name>.",
        examples=["local"],
    )
    size: Annotated[int | None, Write(f"a whole number from 0 to {MAX_NODES}")] = Field(
        default=None,
        ge=0,
        le=MAX_NODES,
        description="Number of machines in the pool.",
        examples=[2],
        json_schema_extra=_never_null,
    )
    nodes: Nodes = Field(
        default=(),
        strict=False,
        max_length=MAX_NODES,
        description=NODES,
        examples=[[{"name": "beta", "address": "192.0.2.21"}]],
    )
    system_volume: Volume = Field(default_factory=SystemVolume, description=VOLUME)
    kubelet_args: KubeletArgs = Field(
        default_factory=dict,
        description="Fields of KubeletConfiguration for these machines. A change restarts kubelet.",
        examples=[{"maxPods": 120}],
    )
    drain: DrainPolicy = Field(default_factory=Drain, description=DRAIN)

    @property
    def count(self) -> int:
        """Number of machines."""
        return len(self.nodes) if self.size is None else self.size


class Spec(Strict):
    """The desired state of one cluster."""

    model_config = ConfigDict(title="Kubewright cluster")

    plugin: Annotated[Literal["kubewright.cluster.spec"], Write(PLUGIN)] = Field(
        description="Makes the file usable as an Ansible inventory: ansible-playbook -i "
        "cluster.yml.",
    )
    name: Annotated[Label, Write("lower-case letters, digits and inner hyphens, such as demo")] = (
        Field(
            description="Name of the cluster, a DNS label. Host names are derived from it.",
            examples=["demo"],
        )
    )
    version: Annotated[str, Write('a Kubernetes version in quotes, such as "1.37" or "1.37.2"')] = (
        Field(
            pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?$",
            description='Kubernetes version. "1.37" means its newest known patch release.',
            examples=["1.37", "1.37.2"],
        )
    )
    control_plane: Annotated[
        ControlPlane, Write("provider and size, such as {provider: local, size: 3}")
    ] = Field(
        description="The machines that run the control plane.",
    )
    pools: Annotated[
        tuple[Pool, ...], Write("a list of pools, such as [{name: web, provider: local, size: 2}]")
    ] = Field(
        strict=False,  # a YAML list is taken for the tuple; the pools in it stay strict
        description="The machines that run workloads. May be empty: [].",
    )
    ssh: Annotated[Ssh, Write("user, port or private_key_file, such as {user: admin}")] = Field(
        default_factory=Ssh,
        description="How to log in to the machines of the provider static.",
    )
    pod_cidr: Annotated[Cidr, Write("an IPv4 network, such as 10.244.0.0/16")] = Field(
        default=rules.POD_CIDR,
        description="IPv4 network of the pods; each node gets a /24 of it.",
        examples=["10.244.0.0/16"],
    )
    service_cidr: Annotated[Cidr, Write("an IPv4 network, such as 10.96.0.0/16")] = Field(
        default=rules.SERVICE_CIDR,
        description="IPv4 network of the services, /12 to /28.",
        examples=["10.96.0.0/16"],
    )

    @property
    def machine_count(self) -> int:
        """How many machines the cluster has in all."""
        return self.control_plane.count + sum(pool.count for pool in self.pools)

    def own_nodes(self) -> tuple[Node, ...]:
        """Return the machines of one's own, which no provider makes or deletes."""
        places: list[ControlPlane | Pool] = [self.control_plane, *self.pools]
        return tuple(node for place in places for node in place.nodes)

    def own_hosts(self) -> tuple[str, ...]:
        """Return the names of the machines of one's own."""
        return tuple(node.name for node in self.own_nodes())


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of cluster.yml, for editors and other tools.

    It can't say the rules between fields; ``kubewright validate`` can.
    """
    schema = Spec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
