# SPDX-License-Identifier: Apache-2.0
"""Certificates that end are told, and renewed while the cluster works."""

from __future__ import annotations

from datetime import timedelta

import aging
from cluster import Cluster
from machines import run_on

API, KUBELET = "pki/apiserver.crt", aging.KUBELET


def test_certificates_that_end_are_told_and_renewed(cluster: Cluster) -> None:
    """One ends soon, another has expired on a kubelet that was started since."""
    control_plane, worker = cluster.control_planes[-1], cluster.workers[0]
    pki = cluster.state / "identity/pki"
    aging.age(control_plane, pki, [API], 12.5)
    aging.age(worker, pki, [KUBELET], -3)
    run_on(worker, ["systemctl", "restart", "kubelet"])

    told = cluster.run("status", "-o", "json")
    assert told.status == 3, told.stdout
    (warning,) = told.document["warnings"]
    assert warning.startswith(f"{control_plane}: the certificate of the API server (")
    assert " expires in 12 days (" in warning
    assert any(
        f"{worker}: the certificate of the kubelet (" in trouble and " expired on " in trouble
        for trouble in told.document["troubles"]
    )

    steps = {
        node["name"]: str(node["steps"]) for node in cluster.plan().succeeded().document["nodes"]
    }
    assert API in steps[control_plane] and "expires in 12 days" in steps[control_plane]
    assert KUBELET in steps[worker] and "expired on" in steps[worker]

    cluster.apply().succeeded()
    for node, file in ((control_plane, API), (control_plane, "scheduler.conf"), (worker, KUBELET)):
        assert aging.ends_in(node, file) > timedelta(days=360), f"{file} of {node}"
    assert not cluster.plan().succeeded().document["changes"]
    told = cluster.run("status", "-o", "json").succeeded()
    assert told.document["warnings"] == []
