# SPDX-License-Identifier: Apache-2.0
"""What ``kubelet_args`` may say: fields that the kubelet has, with values of their kind."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from kubewright.agreed import rules
from kubewright.spec.errors import Finding, Location, at
from kubewright.spec.kubelet_fields import fields, minors
from kubewright.spec.messages import describe

#: What Kubewright itself decides, and why: a value here would take the node out of the cluster.
OURS = {
    "authentication": "kubeadm sets it",
    "authorization": "kubeadm sets it",
    "cgroupDriver": "it must match the container runtime's",
    "clusterDNS": "it follows from service_cidr",
    "containerRuntimeEndpoint": "the runtime is part of the system image",
    "enableServer": "the API server needs the kubelet for logs and exec",
    "healthzBindAddress": "a node judges a new image by the kubelet's health at 127.0.0.1:10248",
    "healthzPort": "a node judges a new image by the kubelet's health at 127.0.0.1:10248",
    "port": "the API server contacts every kubelet on port 10250",
    "providerID": "Kubewright sets it to the machine's id at its provider",
    "registerNode": "kubelets must register themselves",
    "rotateCertificates": "certificates are always rotated",
    "staticPodPath": "kubeadm sets it",
}


def findings(where: Location, name: str, value: Any, version: str) -> Iterator[Finding]:
    """Say what is wrong with a field and its value.

    ``where``: the location of the field. ``version``: that of Kubernetes, as the file has it; what
    no minor is known of is taken for the newest.
    """
    known = minors()
    minor = ".".join(version.split(".")[:2])
    minor = minor if minor in known else known[-1]
    of_minor = fields(minor)
    if name in OURS:
        yield Finding(where, f"{name} can't be set: {OURS[name]}", f"remove {name}", at_key=True)
    elif others := [other for other in known if name in fields(other) and name not in of_minor]:
        what = f"the kubelet of Kubernetes {minor} has no setting {name}"
        yield Finding(where, what, f"remove it: only {', '.join(others)} has it", at_key=True)
    elif name not in of_minor:
        close = difflib.get_close_matches(name, of_minor, 1)
        instead = close[0] if close else "a field of KubeletConfiguration, such as maxPods"
        what = f"the kubelet has no setting {name}"
        yield Finding(where, what, f"write {instead}", at_key=True)
    else:
        kind = of_minor[name]
        try:
            kind.adapter().validate_python(value)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                inside: Location = tuple(detail["loc"])
                yield Finding((*where, *inside), describe(detail), f"write {kind.words}")
        else:
            if name == "maxPods":
                yield from at(where, rules.max_pods(value, "pod_cidr"))
