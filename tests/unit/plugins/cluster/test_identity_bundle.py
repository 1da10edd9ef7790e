# SPDX-License-Identifier: Apache-2.0
"""An identity that comes in one file: unpacked where there is none, refused when it is damaged."""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import (
    identity_making,
    pki,
)

from kubewright.locations import ClusterPaths
from kubewright.operate.identity import read

RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def bundle(tmp_path: Path) -> dict[str, Any]:
    """What the command exports for a cluster that is kept elsewhere."""
    paths = ClusterPaths(tmp_path / "elsewhere" / "demo")
    fixed = {"version": "1.37.2"}
    identity_making.ensure(paths.identity, "demo", "alpha", fixed=fixed, check_mode=False)
    return read(paths)


@pytest.fixture
def unpack(run_module: RunModule, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Run the module with a bundle, given as data or text."""

    def run(bundle: Any, name: str = "demo", **more: Any) -> dict[str, Any]:
        file = tmp_path / "bundle.json"
        file.write_text(bundle if isinstance(bundle, str) else json.dumps(bundle))
        path = tmp_path / "here" / "identity"
        return run_module(
            "cluster_identity", path=str(path), cluster_name=name, bundle=str(file), **more
        )

    return run


def test_unpacked_once_and_then_kept(unpack: Any, bundle: Any, tmp_path: Path) -> None:
    first = unpack(bundle, fixed={"version": "1.37.2"})
    assert (first["changed"], first["initial_node"]) == (True, "alpha")
    assert first["control_plane_pki"] == bundle["pki"]
    assert first["cluster_id"] == bundle["cluster"]["cluster_id"]
    assert "PRIVATE" not in json.dumps(first["diff"])
    here = tmp_path / "here" / "identity"
    for entry in [here, *here.rglob("*")]:
        if entry.suffix not in (".crt", ".pub"):
            assert entry.stat().st_mode & 0o077 == 0, entry
    assert unpack(bundle, begun=True)["begun"] is True
    again = unpack(bundle)
    assert (again["changed"], again["begun"]) == (False, True), "what is here is newer"


def test_check_mode_answers_with_it_and_writes_nothing(
    unpack: Any, bundle: Any, tmp_path: Path
) -> None:
    predicted = unpack(bundle, check=True)
    assert (predicted["changed"], predicted["control_plane_pki"]) == (True, bundle["pki"])
    assert not (tmp_path / "here").exists()


def test_what_is_fixed_comes_with_it(unpack: Any, bundle: Any, tmp_path: Path) -> None:
    bundle["cluster"]["begun"] = True
    refused = unpack(bundle, fixed={"version": "1.36.1"})
    assert "version was 1.37.2 when cluster 'demo' was created" in refused["msg"]
    assert "alpha is recorded" in unpack(bundle, initial_node="bravo")["msg"]
    assert not (tmp_path / "here" / "identity").exists()


def test_one_with_other_keys_is_refused(unpack: Any, bundle: Any) -> None:
    unpack(bundle)
    other = copy.deepcopy(bundle)
    new = pki.control_plane_pki(datetime.datetime.now(datetime.UTC))
    other["pki"] |= {name: new[name] for name in ("sa.key", "sa.pub")}
    for check in (True, False):
        refused = unpack(other, check=check)
        assert "but other keys (sa.key, sa.pub)" in refused["msg"]
        assert "BEGIN" not in json.dumps(refused)
    assert unpack(bundle)["control_plane_pki"] == bundle["pki"]


def test_what_only_the_file_knows_is_recorded(unpack: Any, bundle: Any, tmp_path: Path) -> None:
    unpack(bundle)
    document = tmp_path / "here/identity/cluster.json"
    here = json.loads(document.read_text())
    document.write_text(json.dumps({**here, "initial_node": "", "fixed": {"version": "1.36.1"}}))
    bundle["cluster"]["begun"] = True
    predicted = unpack(bundle, check=True)
    assert (predicted["initial_node"], predicted["begun"]) == ("alpha", True)
    refused = unpack(bundle, fixed={"version": "1.36.1"})
    assert "version was 1.37.2 when cluster 'demo' was created" in refused["msg"]
    assert "recorded in" in unpack(bundle, initial_node="bravo")["msg"]
    taken = unpack(bundle)
    assert (taken["changed"], taken["initial_node"], taken["begun"]) == (True, "alpha", True)
    assert "recorded alpha as the initial node" in taken["diff"]["after"]
    assert unpack(bundle)["changed"] is False
    bundle["cluster"]["begun"] = False
    assert unpack(bundle)["begun"] is True, "what is here is newer"


def test_one_that_names_another_first_node_is_refused(unpack: Any, bundle: Any) -> None:
    unpack(bundle)
    bundle["cluster"]["initial_node"] = "bravo"
    refused = unpack(bundle)
    assert "alpha is recorded in" in refused["msg"]
    assert "but the given identity names bravo" in refused["msg"]


def test_one_that_leaves_open_who_begins_is_refused(
    unpack: Any, bundle: Any, tmp_path: Path
) -> None:
    bundle["cluster"]["initial_node"] = ""
    refused = unpack(bundle)
    assert "does not say which node initializes the cluster" in refused["msg"]
    assert "`kubewright identity make`" in refused["msg"]
    assert not (tmp_path / "here").exists()
    bundle["cluster"]["begun"] = True
    assert unpack(bundle)["begun"] is True, "nobody begins it any more"


def test_one_of_another_cluster_is_refused(
    unpack: Any, bundle: Any, run_module: RunModule, tmp_path: Path
) -> None:
    other = unpack(bundle, name="other")
    assert "identity of cluster 'demo', not of 'other'" in other["msg"]
    here = tmp_path / "here" / "identity"
    assert not here.exists()
    run_module("cluster_identity", path=str(here), cluster_name="demo")
    again = unpack(bundle)
    assert f"is cluster {bundle['cluster']['cluster_id']}" in again["msg"]


def _without(*way: str) -> Callable[[Any], Any]:
    def damage(bundle: Any) -> Any:
        for word in way[:-1]:
            bundle = bundle[word]
        del bundle[way[-1]]

    return damage


def _mixed(bundle: Any) -> None:
    bundle["pki"]["ca.key"] = bundle["pki"]["etcd/ca.key"]


def _cut(bundle: Any) -> None:
    bundle["pki"]["sa.key"] = bundle["pki"]["sa.key"][:70]


def _other_account(bundle: Any) -> None:
    bundle["pki"]["sa.key"] = bundle["pki"]["ca.key"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_without("kubewright_identity"), "is not an identity of format 1"),
        (_without("pki"), "lacks pki"),
        (_without("pki", "etcd/ca.key"), "lacks etcd/ca.key"),
        (_without("cluster", "cluster_id"), "lacks cluster_id"),
        (_mixed, "ca.key is not the key of ca.crt"),
        (_cut, "sa.key: A private key cannot be read"),
        (_other_account, "sa.pub is not the public key of sa.key"),
    ],
)
def test_a_damaged_one_is_refused_without_its_text(
    unpack: Any, bundle: Any, damage: Callable[[Any], None], said: str, tmp_path: Path
) -> None:
    damage(bundle)
    refused = unpack(bundle)
    assert said in refused["msg"]
    assert "kubewright identity export" in refused["msg"]
    assert "BEGIN" not in json.dumps(refused)
    assert not (tmp_path / "here" / "identity").exists()


@pytest.mark.parametrize("text", ["", "-----BEGIN EC PRIVATE KEY-----", "[]", "{"])
def test_what_is_no_bundle(unpack: Any, text: str) -> None:
    refused = unpack(text)
    assert "is not an identity" in refused["msg"]
    assert "BEGIN" not in refused["msg"]


def test_a_file_that_is_not_there(run_module: RunModule, tmp_path: Path) -> None:
    refused = run_module(
        "cluster_identity",
        path=str(tmp_path / "identity"),
        cluster_name="demo",
        bundle=str(tmp_path / "nowhere"),
    )
    assert f"{tmp_path}/nowhere: No such file or directory" in refused["msg"]
