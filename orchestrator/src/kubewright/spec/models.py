# SPDX-License-Identifier: Apache-2.0
"""The fields of cluster.yml: kinds, bounds, defaults, and what to write when a value is wrong.

Field names are those of Scaleway's Kubernetes API where it has one. Rules between fields are in
:mod:`kubewright.spec.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: The inventory plugin that cluster.yml belongs to.
PLUGIN = "kubewright.cluster.spec"

#: RFC 1123 label; the upper bound of 63 is checked apart, for a message of its own.
LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

#: The largest cluster that Kubernetes is tested with has 5,000 nodes
#: (https://kubernetes.io/docs/setup/best-practices/cluster-large/).
MAX_NODES = 5000


@dataclass(frozen=True)
class Write:
    """What a person should write in this field, in words that complete "write ..."."""

    text: str


Label = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=LABEL),
]
#: What ``kubelet_args`` maps to: whatever YAML can say.
KubeletArgs = Annotated[
    dict[str, Any], Write("fields of KubeletConfiguration, such as {maxPods: 120}")
]
Cidr = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """Unknown fields are refused, values are never bent into shape, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ControlPlane(Strict):
    """The machines that run etcd, the API server, the scheduler and the controller manager."""

    provider: Annotated[Label, Write("the name of a provider, such as local")] = Field(
        description="Where the machines come from: the <name> of a role provider_<name>.",
        examples=["local"],
    )
    size: Annotated[int, Write("1, 3, 5 or 7")] = Field(
        ge=1,
        le=7,
        description="How many machines. Odd, for etcd's majority: 3 survive one loss, 5 two.",
        examples=[3],
        json_schema_extra={"enum": [1, 3, 5, 7]},
    )
    kubelet_args: KubeletArgs = Field(
        default_factory=dict,
        description="Fields of KubeletConfiguration for these machines. A change restarts kubelet.",
        examples=[{"maxPods": 120}],
    )


class Pool(Strict):
    """Machines of one kind that run workloads."""

    name: Annotated[Label, Write("lower-case letters, digits and inner hyphens, such as web")] = (
        Field(
            description="Name of the pool, a DNS label other than 'cp'. "
            "Hosts are called <cluster>-<pool>-<number>.",
            examples=["web"],
            json_schema_extra={"not": {"const": "cp"}},
        )
    )
    provider: Annotated[Label, Write("the name of a provider, such as local")] = Field(
        description="Where the machines come from: the <name> of a role provider_<name>.",
        examples=["local"],
    )
    size: Annotated[int, Write(f"a whole number from 0 to {MAX_NODES}")] = Field(
        ge=0,
        le=MAX_NODES,
        description="How many machines the pool has.",
        examples=[2],
    )
    kubelet_args: KubeletArgs = Field(
        default_factory=dict,
        description="Fields of KubeletConfiguration for these machines. A change restarts kubelet.",
        examples=[{"maxPods": 120}],
    )


class Spec(Strict):
    """One cluster, as its file says that it should be."""

    model_config = ConfigDict(title="Kubewright cluster")

    plugin: Annotated[Literal["kubewright.cluster.spec"], Write(PLUGIN)] = Field(
        description="Makes the file an Ansible inventory: ansible-playbook -i cluster.yml.",
    )
    name: Annotated[Label, Write("lower-case letters, digits and inner hyphens, such as demo")] = (
        Field(
            description="Name of the cluster, a DNS label. Host names derive from it.",
            examples=["demo"],
        )
    )
    version: Annotated[str, Write('a Kubernetes version in quotes, such as "1.37" or "1.37.2"')] = (
        Field(
            pattern=r"^[0-9]+\.[0-9]+(\.[0-9]+)?$",
            description='Kubernetes version: "1.37" is the newest patch release of the catalogue.',
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
    pod_cidr: Annotated[Cidr, Write("an IPv4 network, such as 10.244.0.0/16")] = Field(
        default="10.244.0.0/16",
        description="IPv4 network of the pods; each node takes a /24 of it.",
        examples=["10.244.0.0/16"],
    )
    service_cidr: Annotated[Cidr, Write("an IPv4 network, such as 10.96.0.0/16")] = Field(
        default="10.96.0.0/16",
        description="IPv4 network of the services, /12 to /28.",
        examples=["10.96.0.0/16"],
    )

    @property
    def machine_count(self) -> int:
        """How many machines the cluster has in all."""
        return self.control_plane.size + sum(pool.size for pool in self.pools)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of cluster.yml, for editors and other tools.

    It can't say the rules between fields; ``kubewright validate`` can.
    """
    schema = Spec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
