# SPDX-License-Identifier: Apache-2.0
"""What the action plugin ``node_state`` sends to nodes: a run of ansible-playbook without nodes."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import sealed
from real_ansible import PLAYBOOK, Ansible

from kubewright.locations import ClusterPaths
from kubewright.spec.images import SystemImage
from kubewright.spec.inventory import build
from kubewright.spec.machines import Machine, Machines
from kubewright.spec.models import ControlPlane, Pool, Spec

ROOT = Path(__file__).parents[4]

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not PLAYBOOK.exists(), reason="needs ansible-core"),
]

KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----\n"
IDENTITY = {
    "cluster_id": "3f0c",
    "ca_certificate": CERTIFICATE,
    "ca_cert_hash": "sha256:" + "c" * 64,
    "control_plane_pki": {"ca.crt": CERTIFICATE, "ca.key": KEY, "sa.key": KEY, "sa.pub": "DDDD\n"},
}
CONTROL_PLANES = ("demo-cp-1", "demo-cp-2", "demo-cp-3")
KUBELET_ARGS = {
    "maxPods": 120,
    "failSwapOn": False,
    "systemReserved": {"cpu": "1"},
    "enforceNodeAllocatable": ["pods"],
    "imageMinimumGCAge": "1h30m",
    "memoryThrottlingFactor": 1,
}
WORKER = "demo-web-1"
ADDRESSES = {name: f"192.0.2.{end}" for end, name in enumerate((*CONTROL_PLANES, WORKER), 11)}
COMMON = ("system_volume", "load_balancer", "container_runtime")
DIGEST = "a" * 64

#: The real action; what it would send is written to a file.
RECORDING = """\
import json
from pathlib import Path

from ansible_collections.kubewright.cluster.plugins.action import node_state


class ActionModule(node_state.ActionModule):
    module = "node_state"

    def _execute_module(self, module_name, module_args, task_vars):
        assert module_name == "kubewright.cluster.node_state"
        name = task_vars["inventory_hostname"]
        Path(task_vars["recorded"], f"{name}.json").write_text(json.dumps(module_args))
        return {"changed": False}
"""

#: A role that does not run still gives a play its variables.
PLAYS = """\
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        kubewright_identity: "{{ identity }}"
        kubewright_api_servers: >-
          {{ hostvars | kubewright.cluster.api_servers(groups.control_plane) }}
- hosts: kubewright
  gather_facts: false
  vars_files: ["{{ checkout }}/playbooks/vars/nodes.yml"]
  tasks:
    - recording:
        roles: "{{ kubewright_roles }}"
- hosts: demo-web-1
  gather_facts: false
  vars_files: ["{{ checkout }}/playbooks/vars/nodes.yml"]
  roles:
    - {role: kubewright.cluster.system_volume, when: false}
    - {role: kubewright.cluster.load_balancer, when: false}
    - {role: kubewright.cluster.container_runtime, when: false}
  tasks:
    - ansible.builtin.debug:
        msg: >-
          <<>>{{ {'system_volume': system_volume_desired, 'load_balancer': load_balancer_desired,
          'container_runtime': container_runtime_desired} | to_json }}<<>>
"""


def play(
    ansible: Ansible, told: Mapping[str, Any] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it for a cluster of four, whose worker is *told* more by the inventory."""
    directory = ansible.directory
    (directory / "action_plugins").mkdir()
    (directory / "action_plugins/recording.py").write_text(RECORDING)
    (directory / "play.yml").write_text(PLAYS)
    (directory / "inventory.json").write_text(json.dumps(inventory(directory, told or {})))
    known = {"identity": IDENTITY, "recorded": str(directory), "checkout": str(ROOT)}
    words = ["-i", "inventory.json", "-e", json.dumps(known), "play.yml"]
    return ansible.play(*words)


def inventory(directory: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """Ours, as Ansible reads one from a file."""
    machines = tuple(
        Machine(
            id=f"local://{name}",
            name=name,
            address=address,
            host_keys=("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43,),
            provider="local",
            region="here",
            zone="here-1",
            node_type="container",
            power="on",
        )
        for name, address in ADDRESSES.items()
    )
    built = build(
        Spec(
            plugin="kubewright.cluster.spec",
            name="demo",
            version="1.37",
            control_plane=ControlPlane(provider="local", size=3),
            pools=[Pool(name="web", provider="local", size=1, kubelet_args=KUBELET_ARGS)],
        ),
        version="1.37.2",
        paths=ClusterPaths(directory / "state"),
        machines=Machines("demo", machines=machines),
        images={"worker": SystemImage(DIGEST, Path("/nonexistent/image.squashfs"))},
    )
    groups = {
        name: {
            "hosts": {host: {} for host in group.hosts},
            "children": {child: {} for child in group.children},
            "vars": dict(group.variables),
        }
        for name, group in built.groups.items()
    }
    hosts = {name: dict(variables) for name, variables in built.hosts.items()}
    # As containers say, which see no modules of their host.
    hosts[CONTROL_PLANES[2]]["container_runtime_kernel_modules"] = []
    hosts[WORKER].update(told)
    return {"all": {"vars": dict(built.variables), "hosts": hosts, "children": groups}}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, collections_path: Path) -> Path:
    """Where a run wrote what each host would be sent, and what it said."""
    directory = tmp_path_factory.mktemp("desired")
    done = play(Ansible(directory, collections_path))
    assert done.returncode == 0, done.stdout + done.stderr
    (directory / "stdout").write_text(done.stdout)
    return directory


def documents(directory: Path, host: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / f"{host}.json").read_text())["documents"]
    return found


def files(document: Mapping[str, Any]) -> dict[str, Any]:
    kubelet = document.get("kubelet", {})
    return {file["path"]: file for file in [*document["files"], *kubelet.get("files", [])]}


def test_a_host_is_sent_the_documents_of_its_roles(directory: Path) -> None:
    assert list(documents(directory, WORKER)) == ["preflight", *COMMON, "worker"]
    assert list(documents(directory, CONTROL_PLANES[0])) == [
        "preflight",
        *COMMON,
        "control_plane",
        "cni",
    ]


@pytest.mark.parametrize("host", [*CONTROL_PLANES, WORKER])
def test_every_file_has_a_text(directory: Path, host: str) -> None:
    found = [
        (file["path"], file.get("content"))
        for document in documents(directory, host).values()
        for file in document.get("files") or []
        if file.get("state", "file") in ("file", "block") and not file.get("secret")
    ]
    assert found
    assert [path for path, text in found if not isinstance(text, str)] == []


def test_a_role_that_runs_wants_the_same(directory: Path) -> None:
    _, seen, _ = (directory / "stdout").read_text().split("<<>>")
    sent = documents(directory, WORKER)
    assert json.loads(json.loads(f'"{seen}"')) == {role: sent[role] for role in COMMON}


def test_the_limits_are_those_of_what_the_machine_is_to_become(directory: Path) -> None:
    worker = documents(directory, WORKER)["preflight"]
    control_plane = documents(directory, CONTROL_PLANES[0])["preflight"]
    assert (worker["role"], worker["cpus"], worker["memory_mib"]) == ("worker", 1, 900)
    assert worker["ports"] == [7443, 10248, 10249, 10250, 10256]
    assert set(control_plane["ports"]) - set(worker["ports"]) == {
        6443,
        2379,
        2380,
        2381,
        10257,
        10259,
    }
    assert {"overlay", "br_netfilter", "nf_tables", "squashfs", "vxlan"} <= set(
        worker["kernel_modules"]
    )
    assert (worker["allow_swap"], worker["volume"]["sparse"]) == (False, False)
    assert (worker["room"]["/var/lib/etcd"], worker["clock_seconds"]) == (0, 1.0)
    assert (
        worker["volume"]["path"] == documents(directory, WORKER)["system_volume"]["volume"]["path"]
    )
    assert (worker["image"], control_plane["image"]) == (True, False)
    assert worker["ca_certificate"] == CERTIFICATE


@pytest.mark.parametrize("host", [CONTROL_PLANES[1], WORKER])
def test_the_balancer_of_each_host_knows_all_api_servers(directory: Path, host: str) -> None:
    document = files(documents(directory, host)["load_balancer"])
    text = document["/etc/kubewright/balancer/haproxy.cfg"]["content"]
    assert text.startswith("# Managed by Kubewright.")
    assert text.endswith(
        "backend control_plane\n"
        "    balance roundrobin\n"
        "    option httpchk\n"
        "    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host api.demo.internal\n"
        "    http-check expect status 200\n"
        "    default-server inter 500ms fall 2 rise 2 on-marked-down shutdown-sessions\n"
        "    default-server check check-ssl check-sni api.demo.internal verify required"
        " verifyhost api.demo.internal ca-file /etc/haproxy/ca.crt\n"
        "    server demo-cp-1 192.0.2.11:6443\n"
        "    server demo-cp-2 192.0.2.12:6443\n"
        "    server demo-cp-3 192.0.2.13:6443\n"
        "    # Only used when all servers fail their checks: if busy, they are slow all at once.\n"
        "    option allbackups\n"
        "    server demo-cp-1-unchecked 192.0.2.11:6443 no-check backup\n"
        "    server demo-cp-2-unchecked 192.0.2.12:6443 no-check backup\n"
        "    server demo-cp-3-unchecked 192.0.2.13:6443 no-check backup\n"
    )
    assert "    bind 127.0.0.1:7443\n" in text
    # Busy API servers were all taken out at once when their answers took a second.
    assert "    timeout connect 1s\n" in text and "    timeout check 3s\n" in text
    assert document["/etc/kubewright/balancer/ca.crt"]["content"] == CERTIFICATE
    assert document["/etc/hosts"]["content"] == "", "others write it: nothing may depend on it"


def test_the_kubelets_drop_in_has_what_the_pool_wants_over_what_we_want(directory: Path) -> None:
    def drop_in(host: str) -> Any:
        document = files(documents(directory, host)["container_runtime"])
        text = document["/etc/kubewright/kubelet.d/10-kubewright.conf"]["content"]
        assert text.endswith("}\n")
        return json.loads(text)

    ours = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
    }
    assert drop_in(WORKER) == {**ours, **KUBELET_ARGS}
    assert drop_in(WORKER)["failSwapOn"] is False
    assert drop_in(CONTROL_PLANES[0]) == ours


def test_the_runtime_and_the_kernel(directory: Path) -> None:
    document = documents(directory, WORKER)["container_runtime"]
    texts = files(document)
    settings = texts["/etc/sysctl.d/90-kubewright.conf"]["content"].splitlines()[1:]
    assert settings == sorted(settings)
    assert "-net.ipv4.ip_forward = 1" in settings
    modules = texts["/etc/modules-load.d/kubewright.conf"]["content"]
    assert modules == "# Managed by Kubewright.\noverlay\nbr_netfilter\nnf_conntrack\n"
    configuration = texts["/etc/kubewright/containerd/config.toml"]["content"].splitlines()
    assert {"SystemdCgroup = true", "restrict_oom_score_adj = false"} <= set(configuration)
    # Mirrors that the machine's owner has there are used.
    assert 'config_path = "/etc/containerd/certs.d"' in configuration
    # A proxy of systemd's DefaultEnvironment is not for who asks the API.
    kubelet = texts["/etc/systemd/system/kubelet.service"]["content"]
    unset = next(line for line in kubelet.splitlines() if line.startswith("UnsetEnvironment="))
    assert {"HTTPS_PROXY", "https_proxy"} <= set(unset.partition("=")[2].split())
    units = {unit["name"]: unit for unit in document["units"]}
    assert units["systemd-sysctl.service"]["sysctls"]["net.ipv4.ip_forward"] == 1
    assert [file["path"] for file in document["kubelet"]["files"]] == [
        "/etc/systemd/system/kubelet.service",
        "/etc/kubewright/kubelet.d",
        "/etc/kubewright/kubelet.d/10-kubewright.conf",
    ]
    assert texts["/etc/kubewright/kubelet.d"]["exclusive"] == "*.conf"


def test_what_is_noted_of_pods_networks_goes_at_boot_and_only_then(
    directory: Path, tmp_path: Path
) -> None:
    texts = files(documents(directory, WORKER)["container_runtime"])
    here, root = tmp_path / "kubewright.conf", tmp_path / "root"
    here.write_text(texts["/etc/tmpfiles.d/kubewright.conf"]["content"])
    books = root / "var/lib/cni"
    ours = ("flannel/1f0c", "networks/cbr0/10.244.0.5", "results/cbr0-1f0c-eth0")
    for name in (*ours, "networks/theirs/10.1.0.5"):
        (books / name).parent.mkdir(parents=True, exist_ok=True)
        (books / name).touch()

    def left(*options: str) -> list[str]:
        words = ["systemd-tmpfiles", "--remove", f"--root={root}", *options, str(here)]
        subprocess.run(words, check=True, capture_output=True, timeout=60)
        return sorted(str(one.relative_to(books)) for one in books.rglob("*") if one.is_file())

    assert left() == sorted([*ours, "networks/theirs/10.1.0.5"])
    assert left("--boot") == ["networks/theirs/10.1.0.5"]


def test_the_image_and_the_node(directory: Path) -> None:
    sent = documents(directory, WORKER)
    assert sent["system_volume"]["image"]["digest"] == DIGEST
    assert sent["system_volume"]["volume"]["size_bytes"] == 20_000_000_000
    document = sent["system_volume"]
    units = {unit["name"]: unit for unit in document["volume"]["units"] + document["units"]}
    switched = [name for name, unit in units.items() if "mount" in name and "restart_after" in unit]
    assert switched == ["opt-kubewright.mount", "etc-kubewright.mount"]
    assert units["kubewright-seal.service"]["read_only"] == list(sealed.PLACES)
    assert sent["worker"]["membership"] == {"role": "worker", "cluster_id": "3f0c"}
    assert sent["worker"]["node"]["labels"]["kubewright.io/pool"] == "web"
    assert sent["worker"]["node"]["labels"]["topology.kubernetes.io/zone"] == "here-1"


def test_keys_are_sent_as_digests_alone(directory: Path) -> None:
    for host in ADDRESSES:
        assert "PRIVATE KEY" not in (directory / f"{host}.json").read_text()
    document = documents(directory, CONTROL_PLANES[0])["control_plane"]
    assert "secrets" not in document
    assert document["digests"]["/etc/kubernetes/pki/ca.key"] == (
        hashlib.sha256(KEY.encode()).hexdigest()
    )
    assert files(document)["/etc/kubernetes/pki/ca.crt"]["content"] == CERTIFICATE
    assert "content" not in files(document)["/etc/kubernetes/pki/sa.key"]


def test_the_cluster_and_its_network(directory: Path) -> None:
    sent = documents(directory, CONTROL_PLANES[0])
    cluster = {one["kind"]: one for one in sent["control_plane"]["cluster"]}
    assert cluster["ClusterConfiguration"]["controlPlaneEndpoint"] == "127.0.0.1:7443"
    assert "127.0.0.1" in cluster["ClusterConfiguration"]["apiServer"]["certSANs"]
    assert cluster["ClusterConfiguration"]["networking"]["podSubnet"] == "10.244.0.0/16"
    assert cluster["KubeProxyConfiguration"]["mode"] == "nftables"
    objects = {one["kind"]: one for one in sent["cni"]["objects"]}
    data = objects["ConfigMap"]["data"]
    assert json.loads(data["net-conf.json"])["Network"] == "10.244.0.0/16"
    pod = objects["DaemonSet"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert "--iface=$(NODE_ADDRESS)" in container["command"], "not that of the default route"
    address = {"name": "NODE_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}
    assert address in container["env"]
    assert pod["metadata"]["annotations"]["kubewright.io/configuration"] == (
        hashlib.sha256((data["cni-conf.json"] + data["net-conf.json"]).encode()).hexdigest()
    )
    environment = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    assert environment["KUBERNETES_SERVICE_PORT"] == "7443"


def test_what_a_role_cannot_read_is_an_error_that_says_what_to_write(
    tmp_path: Path, ansible: Ansible
) -> None:
    done = play(ansible, {"load_balancer_port": "http", "container_runtime_kernel_modules": {}})
    assert done.returncode != 0
    assert "Role load_balancer, option load_balancer_port: " in done.stdout
    assert "Write a value of the type int." in done.stdout
    assert "Role container_runtime, option container_runtime_kernel_modules: " in done.stdout
    assert "Write a value of the type list of str." in done.stdout
    assert not (tmp_path / f"{WORKER}.json").exists()
    assert (tmp_path / f"{CONTROL_PLANES[0]}.json").exists()
