"""Which control plane acts for the cluster: elected, never "the first one"."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.kubewright.cluster.plugins.filter import cluster


def state(phase: str = "none", ready: bool = False) -> dict[str, Any]:
    """What node_state says of a control plane."""
    return {"membership": {"phase": phase}, "api_ready": ready}


def test_a_new_cluster_begins_on_the_first_by_name() -> None:
    assert cluster.actor({"b": state(), "a": state()}) == "a"


def test_a_begun_cluster_goes_on_where_it_was_begun() -> None:
    assert cluster.actor({"a": state(), "b": state("partial")}, "b") == "b"


def test_a_ready_api_server_acts_whoever_began() -> None:
    states = {
        "a": state("joined"),
        "b": state("joined", ready=True),
        "c": state("joined", ready=True),
    }
    assert cluster.actor(states, "a") == "b"


def test_the_beginner_may_be_gone_once_another_has_joined() -> None:
    assert cluster.actor({"c": state("joined", ready=True)}, "a") == "c"


def test_a_cluster_is_never_begun_twice() -> None:
    with pytest.raises(AnsibleFilterError, match="begun on a"):
        cluster.actor({"b": state()}, "a")


@pytest.mark.parametrize("phase", ["none", "partial"])
def test_a_cluster_that_was_whole_is_not_begun_where_its_nodes_were_lost(phase: str) -> None:
    """Its other control planes do not answer, and may come back."""
    with pytest.raises(AnsibleFilterError, match=r"cluster is there, and a is no part of it"):
        cluster.actor({"a": state(phase)}, "a", begun=True)
    assert cluster.actor({"a": state(phase), "b": state("joined", ready=True)}, "a", True) == "b"


def test_nobody_acts_without_an_api_server() -> None:
    with pytest.raises(AnsibleFilterError, match="No API server is ready on b"):
        cluster.actor({"a": state(), "b": state("joined")}, "b")


def test_nobody_answers() -> None:
    with pytest.raises(AnsibleFilterError, match="No control plane answers"):
        cluster.actor({})


def test_nodes_of_another_cluster_are_found() -> None:
    states = {
        name: {"membership": {"phase": phase, "cluster_id": identity}}
        for name, phase, identity in (
            ("new", "none", None),
            ("ours", "joined", "1"),
            ("theirs", "joined", "2"),
            ("half", "partial", "3"),
        )
    }
    assert cluster.foreign(states, "1") == {"half": "3", "theirs": "2"}


def test_states_leave_out_who_did_not_answer() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "a": {"kubewright_state": {"unreachable": True}},
        "b": {"kubewright_state": state()},
        "c": {},
    }
    assert list(cluster.node_states(hostvars, ["a", "b", "c"])) == ["b"]


def test_balancers_get_the_same_list_everywhere() -> None:
    hostvars: dict[str, dict[str, Any]] = {
        "b": {"kubewright_machine": {"address": "192.0.2.2"}, "ansible_host": "bastion"},
        "a": {"ansible_host": "192.0.2.1"},
        "c": {},
    }
    assert cluster.api_servers(hostvars, ["b", "c", "a"]) == [
        {"name": "a", "address": "192.0.2.1"},
        {"name": "b", "address": "192.0.2.2"},
    ]


def test_keys_are_secret_and_certificates_are_not() -> None:
    pki = {"ca.crt": "public", "etcd/ca.key": "private"}
    public, private = cluster.pki_files(pki)
    assert public == {"path": "/etc/kubernetes/pki/ca.crt", "content": "public"}
    assert private == {"path": "/etc/kubernetes/pki/etcd/ca.key", "mode": "0600", "secret": True}
    assert cluster.pki_secrets(pki) == {"/etc/kubernetes/pki/etcd/ca.key": "private"}


def test_labels_say_pool_and_place_and_nothing_unknown() -> None:
    machine = {"region": "local", "zone": "local-1", "node_type": ""}
    assert cluster.node_labels({"kubewright_pool": "web", "kubewright_machine": machine}) == {
        "kubewright.io/pool": "web",
        "topology.kubernetes.io/region": "local",
        "topology.kubernetes.io/zone": "local-1",
    }
    assert cluster.node_labels({"kubewright_pool": ""}) == {}
