# SPDX-License-Identifier: Apache-2.0
"""Objects of the API: what is desired has to be found in what is there, and nothing more."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import client, objects
from ansible_collections.kubewright.cluster.plugins.modules import cluster_objects

RunModule = Callable[..., dict[str, Any]]
CONTAINER = {
    "name": "flannel",
    "image": "flannel:1",
    "env": [{"name": "A", "value": "1"}, {"name": "EMPTY", "value": ""}],
    "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}],
    "volumeMounts": [
        {"name": "run", "mountPath": "/run/flannel"},
        {"name": "run", "mountPath": "/run/xtables.lock", "subPath": "lock"},
    ],
    "securityContext": {"privileged": False, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
}
DAEMON_SET: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "flannel", "namespace": "net", "labels": {"app": "flannel"}},
    "spec": {
        "template": {
            "spec": {
                "hostNetwork": True,
                "containers": [CONTAINER],
                "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
                "volumes": [{"name": "run", "emptyDir": {}}],
            }
        }
    },
}
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "net"}}


def as_served(item: dict[str, Any]) -> dict[str, Any]:
    """The object as the API gives it back: with its own fields; named entries in another order."""
    live = copy.deepcopy(item)
    live["metadata"] |= {"uid": "7", "annotations": {"other": "x"}}
    live["metadata"]["labels"]["more"] = "x"
    live["status"] = {"numberReady": 1}
    pod = live["spec"]["template"]["spec"]
    pod["restartPolicy"] = "Always"
    pod["volumes"][0]["emptyDir"] = None
    container = pod["containers"][0]
    container["imagePullPolicy"] = "IfNotPresent"
    del container["env"][1]["value"]
    del container["securityContext"]["privileged"]
    for name in ("env", "volumeMounts"):
        container[name].reverse()
    pod["containers"].insert(0, {"name": "sidecar", "image": "x"})
    pod["volumes"].append({"name": "token", "projected": {}})
    return live


def test_what_the_server_fills_in_is_no_difference() -> None:
    assert objects.differing(DAEMON_SET, as_served(DAEMON_SET)) == []


def container(live: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = live["spec"]["template"]["spec"]["containers"][1]
    return found


def pod(live: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = live["spec"]["template"]["spec"]
    return found


FLANNEL = ".spec.template.spec.containers[flannel]"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda live: container(live).update(image="other:2"), [f"{FLANNEL}.image"]),
        (lambda live: container(live)["env"].pop(1), [f"{FLANNEL}.env[A]"]),
        (lambda live: container(live).pop("env"), [f"{FLANNEL}.env[A]", f"{FLANNEL}.env[EMPTY]"]),
        (
            lambda live: container(live)["env"][0].update(value="full"),
            [f"{FLANNEL}.env[EMPTY].value"],
        ),
        (
            lambda live: container(live)["volumeMounts"][0].update(subPath="key"),
            [f"{FLANNEL}.volumeMounts[/run/xtables.lock].subPath"],
        ),
        (lambda live: container(live)["ports"].pop(), [f"{FLANNEL}.ports"]),
        (
            lambda live: container(live)["securityContext"]["capabilities"]["add"].append("X"),
            [f"{FLANNEL}.securityContext.capabilities.add"],
        ),
        (
            lambda live: container(live)["securityContext"].update(privileged=True),
            [f"{FLANNEL}.securityContext.privileged"],
        ),
        (lambda live: pod(live)["containers"].pop(), [FLANNEL]),
        (lambda live: pod(live).pop("hostNetwork"), [".spec.template.spec.hostNetwork"]),
        (
            lambda live: pod(live)["tolerations"][0].update(effect="NoExecute"),
            [".spec.template.spec.tolerations[0].effect"],
        ),
        (
            lambda live: pod(live)["tolerations"].append({"operator": "Exists"}),
            [".spec.template.spec.tolerations"],
        ),
        (lambda live: live["metadata"]["labels"].pop("app"), [".metadata.labels.app"]),
        (lambda live: live["metadata"].pop("labels"), [".metadata.labels"]),
        (lambda live: live.update(spec="x"), [".spec"]),
    ],
)
def test_each_difference_is_named(
    damage: Callable[[dict[str, Any]], object], expected: list[str]
) -> None:
    desired = copy.deepcopy(DAEMON_SET)
    live = as_served(desired)
    if expected == [f"{FLANNEL}.ports"]:  # no field tells its entries apart
        live["spec"]["template"]["spec"]["containers"][1]["ports"].reverse()
    damage(live)
    assert objects.differing(desired, live) == expected


def test_an_entry_is_found_among_several_of_the_same_key() -> None:
    live = [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]
    for desired in live:
        assert objects.differing([desired], live) == []
    assert objects.differing([{"containerPort": 53, "protocol": "SCTP"}], live) == ["[53].protocol"]


@pytest.mark.parametrize("empty", ["", 0, False, None, [], {}])
def test_what_is_empty_may_be_absent_and_may_not_be_full(empty: Any) -> None:
    assert objects.differing({"a": empty}, {}) == []
    assert objects.differing({"a": empty}, {"a": None}) == []
    if empty != {}:
        assert objects.differing({"a": empty}, {"a": ["x"]}) == [".a"]


class Api:
    """An API with *objects* by path, and the two groups that the tests use."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self.objects = objects
        self.asked: list[str] = []
        groups = {
            "/api/v1": [("Namespace", "namespaces", False), ("Namespace", "namespaces/x", False)],
            "/apis/apps/v1": [("DaemonSet", "daemonsets", True)],
        }
        for path, kinds in groups.items():
            self.objects[path] = {
                "resources": [
                    {"kind": kind, "name": name, "namespaced": inside}
                    for kind, name, inside in kinds
                ]
            }

    def get(self, path: str) -> Any:
        self.asked.append(path)
        return self.objects.get(path)


SET_PATH = "/apis/apps/v1/namespaces/net/daemonsets/flannel"


def reasons(api: Api, *desired: dict[str, Any]) -> list[str]:
    return objects.reasons(api, desired)  # type: ignore[arg-type]


def test_reasons_in_words() -> None:
    live = as_served(DAEMON_SET)
    api = Api({"/api/v1/namespaces/net": NAMESPACE, SET_PATH: live})
    assert reasons(api, NAMESPACE, DAEMON_SET) == []
    live["spec"]["template"]["spec"]["hostNetwork"] = False
    assert reasons(api, DAEMON_SET) == [
        "DaemonSet flannel differs in .spec.template.spec.hostNetwork"
    ]
    assert reasons(Api({}), NAMESPACE) == ["Namespace net is missing"]
    foreign = {"apiVersion": "example.org/v1", "kind": "Thing", "metadata": {"name": "a"}}
    assert reasons(Api({}), foreign) == ["Thing a: the API has no example.org/v1 Thing"]


def test_each_api_version_is_asked_for_once() -> None:
    api = Api({})
    reasons(api, NAMESPACE, NAMESPACE)
    assert api.asked == ["/api/v1", "/api/v1/namespaces/net", "/api/v1/namespaces/net"]


def test_an_object_without_a_namespace_lies_in_the_default_one() -> None:
    item = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "a b"}}
    path = objects.path_of(item, "daemonsets", True)
    assert path == "/apis/apps/v1/namespaces/default/daemonsets/a%20b"


@pytest.mark.parametrize("missing", ["apiVersion", "kind", "metadata"])
def test_half_an_object_is_refused_in_words(missing: str) -> None:
    item = {key: value for key, value in NAMESPACE.items() if key != missing}
    with pytest.raises(KubewrightError, match="All three are required"):
        reasons(Api({}), item)


class Kubectl:
    """Makes what it is given, unless something in the cluster changes it back."""

    def __init__(self, api: Api, stubborn: bool = False) -> None:
        self.api, self.stubborn = api, stubborn
        self.calls: list[list[str]] = []

    def __call__(self, argv: Any, *, timeout: float = 0, stdin: str = "") -> commands.Result:
        self.calls.append(list(argv))
        (item,) = json.loads(stdin)["items"]
        if not self.stubborn:
            self.api.objects["/api/v1/namespaces/net"] = item
        return commands.Result(tuple(argv), 0, "", "")


def converge(api: Api, run: Kubectl, check: bool = False) -> list[str]:
    params = {"objects": [NAMESPACE], "kubectl": "/bin/kubectl", "timeout": 1}
    return cluster_objects.converge(api, run, params, check)  # type: ignore[arg-type]


def test_applied_once_and_predicted_the_same() -> None:
    api = Api({})
    kubectl = Kubectl(api)
    assert converge(api, kubectl, check=True) == ["Namespace net is missing"]
    assert kubectl.calls == []
    assert converge(api, kubectl) == ["Namespace net is missing"]
    assert kubectl.calls[0][-2:] == ["apply", "--filename=-"]
    assert converge(api, kubectl) == []
    assert len(kubectl.calls) == 1


def test_what_the_cluster_changes_back_is_an_error() -> None:
    api = Api({})
    with pytest.raises(
        KubewrightError,
        match=r"Still different after kubectl apply: Namespace "
        r"net",
    ):
        converge(api, Kubectl(api, stubborn=True))


def test_module_without_credentials(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ADMINISTRATOR", tmp_path / "admin.conf")
    result = run_module("cluster_objects", objects=[NAMESPACE], api_servers=["x"], api_name="y")
    assert "admin.conf can't be read" in result["msg"]
