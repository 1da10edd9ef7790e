# SPDX-License-Identifier: Apache-2.0
"""Certificates in the state that end are told before; an expired one is no 401."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import pki

from kubewright.locations import ClusterPaths
from kubewright.observe import expiry, snapshot
from kubewright.observe.model import ApiServer
from kubewright.spec.models import ControlPlane, Pool, Spec

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SPEC = Spec(
    plugin="kubewright.cluster.spec",
    name="demo",
    version="1.37",
    control_plane=ControlPlane(provider="local", size=1),
    pools=(Pool(name="web", provider="local", size=1),),
)


def lay(state: Path, days_left: float, years_left: float = 9) -> ClusterPaths:
    """A state whose administrator's certificate and CAs have so much left."""
    paths = ClusterPaths.of("demo", {"KUBEWRIGHT_STATE_DIR": str(state)})
    made_at = NOW - timedelta(days=pki.CA_DAYS - 365 * years_left)
    for name in expiry.AUTHORITIES:
        path = paths.pki / f"{name}.crt"
        path.parent.mkdir(parents=True, exist_ok=True)
        authority = pki.make_authority(name, made_at)
        path.write_text(authority.certificate)
    subject = pki.Subject("kubernetes-admin", ())
    client = pki.make_client(authority, subject, 365, NOW - timedelta(days=365 - days_left))
    data = base64.b64encode(client.certificate.encode()).decode()
    user = {"client-certificate-data": data, "client-key-data": ""}
    document = {"clusters": [{"cluster": {"server": "x"}}], "users": [{"user": user}]}
    paths.kubeconfig.write_text(yaml.safe_dump(document))
    return paths


def test_what_is_good_for_long_is_not_told(tmp_path: Path) -> None:
    assert expiry.of_state(lay(tmp_path, 31), NOW) == ()


@pytest.mark.parametrize(
    ("left", "said", "warning"),
    [(12, "expires in 12 days (2026-12-11)", True), (-3, "expired on 2026-11-26", False)],
)
def test_an_administrators_that_ends_is_told(
    tmp_path: Path, left: int, said: str, warning: bool
) -> None:
    paths = lay(tmp_path, left)
    (found,) = expiry.of_state(paths, NOW)
    assert found.text == f"the administrator's certificate in {paths.kubeconfig} {said}."
    assert "'kubewright apply' to renew it" in found.remedy
    assert found.warning is warning


def test_a_ca_is_told_a_year_before(tmp_path: Path) -> None:
    found = expiry.of_state(lay(tmp_path, 200, years_left=0.9), NOW)
    assert [one.text.split(" (")[0] for one in found] == list(expiry.AUTHORITIES.values())
    assert all(one.warning and "new cluster" in one.remedy for one in found)


def test_with_an_expired_one_no_api_server_is_asked(tmp_path: Path) -> None:
    """It answered: HTTP status 401."""
    server = ApiServer("demo-cp-1", "192.0.2.1", True)
    found, reason = asyncio.run(snapshot._nodes(SPEC, lay(tmp_path, -3), [server], NOW))
    assert (found, reason) == (None, "the administrator's certificate has expired")


def test_a_state_that_is_not_there_yet_says_nothing(tmp_path: Path) -> None:
    paths = ClusterPaths.of("demo", {"KUBEWRIGHT_STATE_DIR": str(tmp_path)})
    assert expiry.of_state(paths, NOW) == ()
