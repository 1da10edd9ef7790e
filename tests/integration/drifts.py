# SPDX-License-Identifier: Apache-2.0
"""Foreign changes on nodes: what somebody does there by hand, and how it is told and mended.

Two batches, each of which is made at once. Within a batch no file and no unit of a node is changed
twice, most roles of a node are left alone, and nothing is done that the cluster could not bear for
a minute: etcd keeps its members, and what is edited is not read before it has been mended.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from cluster import VERSION

#: The nodes of tests' clusters, without the cluster's name.
NODES = ("cp-1", "cp-2", "cp-3", "web-1", "web-2")

VOLUME, BALANCER, RUNTIME = "system_volume", "load_balancer", "container_runtime"
CONTROL_PLANE, WORKER, NETWORK = "control_plane", "worker", "cni"

CONFIG = "/etc/kubewright/containerd/config.toml"
CRICTL = "/etc/crictl.yaml"
DROP_IN = "/etc/kubewright/kubelet.d/10-kubewright.conf"
FOREIGN_DROP_IN = "/etc/kubewright/kubelet.d/20-foreign.conf"
SYSCTLS = "/etc/sysctl.d/90-kubewright.conf"
BALANCER_FILES = "/etc/kubewright/balancer"
PKI = "/etc/kubernetes/pki"
UNITS = "/etc/systemd/system"
SYSCTL_UNIT, CONTAINERD, KUBELET = "systemd-sysctl.service", "containerd.service", "kubelet.service"
BALANCER_UNIT, SEAL = "kubewright-balancer.service", "kubewright-seal.service"
#: Read-only: see kubewright-maintenance.
SEALED = ("/etc/kubewright/", "/etc/kubernetes/")
#: An image that nothing needs while its container runs.
PROXY = f"registry.k8s.io/kube-proxy:v{VERSION}"
_PINNED, _ARCHIVE = "io.cri-containerd.pinned", "cluster.kubewright/archive"
_ROLE_KEY = "node-role.kubernetes.io/control-plane"


@dataclass(frozen=True)
class Drift:
    """One foreign change.

    ``node`` lacks the cluster's name; it is empty for an object of the whole cluster. ``make`` is
    shell text that runs on the machine ``on``, else on the node; it has $NODE (the full name) and
    the functions kubectl and images (of ctr). ``mended`` is one shell command (&& and pipes
    included) that succeeds there once all is well.

    ``plan`` has to name ``role``, with a reason that contains ``reason``. Mending may write anew
    the paths ``rewrites``, and restarts the units ``restarts`` and the containers of the names
    ``containers``: all of them, and no other ones but those of ``perhaps``, which may have put
    things right themselves before.
    """

    name: str
    node: str
    role: str
    reason: str
    make: str
    mended: str
    rewrites: tuple[str, ...] = ()
    restarts: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    on: str = ""

    @property
    def place(self) -> str:
        """The machine where its commands run, without the cluster's name."""
        return self.on or self.node or "cp-1"


def _where_it_is_read_only(path: str, command: str) -> str:
    """A shell command that changes ``path``: in a read-only place as a person would."""
    if not path.startswith(SEALED):
        return command
    return f"kubewright-maintenance sh -ec {shlex.quote(command)}"


def edited(name: str, node: str, role: str, path: str, *restarts: str) -> Drift:
    """A line was added to a file."""
    make = _where_it_is_read_only(path, f"test -f {path}\necho '# foreign' >>{path}")
    return Drift(name, node, role, path, make, f"! grep -q foreign {path}", (path,), restarts)


def removed(name: str, node: str, role: str, path: str, *restarts: str) -> Drift:
    """A file was removed."""
    make = _where_it_is_read_only(path, f"rm {path}")
    return Drift(name, node, role, path, make, f"test -f {path}", (path,), restarts)


def mode(name: str, node: str, role: str, path: str, octal: str) -> Drift:
    """The mode of a file or directory was changed: nothing is to be written anew."""
    make = _where_it_is_read_only(path, f"chmod {octal} {path}")
    return Drift(name, node, role, path, make, f"test $(stat -c %a {path}) != {octal}")


def owner(name: str, node: str, role: str, path: str) -> Drift:
    """A file was given to another user: nothing is to be written anew."""
    make = _where_it_is_read_only(path, f"chown nobody {path}")
    return Drift(name, node, role, path, make, f"test $(stat -c %U {path}) = root")


def stopped(name: str, node: str, role: str, unit: str) -> Drift:
    """A service was stopped."""
    return Drift(
        name,
        node,
        role,
        unit,
        f"systemctl stop {unit}",
        f"systemctl is-active {unit}",
        restarts=(unit,),
    )


def disabled(name: str, node: str, role: str, unit: str) -> Drift:
    """A unit no longer starts at boot, but runs."""
    return Drift(
        name, node, role, unit, f"systemctl disable {unit}", f"systemctl is-enabled {unit}"
    )


def labeled(
    name: str, node: str, role: str, label: str, change: str, selects: str = "local"
) -> Drift:
    """A Node's label was changed (``=value``) or removed (``-``); ``selects`` is its own value."""
    return Drift(
        name,
        node,
        role,
        f"label {label}",
        f"kubectl label node $NODE --overwrite {label}{change}",
        f"kubectl get nodes --selector={label}={selects} --output=name | grep -qx node/$NODE",
        on="cp-1",
    )


def image(name: str, node: str, command: str) -> Drift:
    """Something was done to an image by ctr."""
    query = f'name=="{PROXY}",labels."{_ARCHIVE}",labels."{_PINNED}"==pinned'
    mended = f"images ls --quiet '{query}' | grep -q ."
    return Drift(name, node, RUNTIME, PROXY, f"images {command}", mended)


def network(name: str, reason: str, command: str, mended: str) -> Drift:
    """Something was done to an object of the pod network by kubectl."""
    return Drift(name, "", NETWORK, reason, f"kubectl {command}", mended)


#: Files, images and objects.
CONFIGURATION = (
    mode("key-readable", "cp-1", CONTROL_PLANE, f"{PKI}/etcd/ca.key", "644"),
    edited("haproxy-edited", "cp-1", BALANCER, f"{BALANCER_FILES}/haproxy.cfg", BALANCER_UNIT),
    removed("key-removed", "cp-2", CONTROL_PLANE, f"{PKI}/ca.key"),
    labeled("role-label-removed", "cp-2", CONTROL_PLANE, _ROLE_KEY, "-", selects=""),
    edited("sysctl-file-edited", "cp-2", RUNTIME, SYSCTLS, SYSCTL_UNIT),
    edited("kubelet-unit-edited", "cp-2", RUNTIME, f"{UNITS}/{KUBELET}", KUBELET),
    edited("public-key-edited", "cp-3", CONTROL_PLANE, f"{PKI}/sa.pub"),
    Drift(
        "taint-removed",
        "cp-3",
        CONTROL_PLANE,
        f"taint {_ROLE_KEY}",
        f"kubectl taint node $NODE {_ROLE_KEY}:NoSchedule-",
        f"kubectl get node $NODE --output='jsonpath={{.spec.taints[*].key}}' | grep -q {_ROLE_KEY}",
        on="cp-1",
    ),
    mode("config-writable", "cp-3", RUNTIME, CONFIG, "666"),
    edited("volume-unit-edited", "cp-3", VOLUME, f"{UNITS}/var-lib-kubewright-system.mount"),
    edited("config-edited", "web-1", RUNTIME, CONFIG, CONTAINERD),
    labeled("pool-label-removed", "web-1", WORKER, "kubewright.io/pool", "-", selects="web"),
    # On a node whose kubelet keeps running: one that starts mends this label by itself.
    labeled(
        "zone-changed",
        "web-1",
        WORKER,
        "topology.kubernetes.io/zone",
        "=foreign",
        selects="local-1",
    ),
    image("image-unpinned", "web-1", f"label {PROXY} {_PINNED}="),
    Drift(
        "authority-replaced",
        "web-1",
        BALANCER,
        f"{BALANCER_FILES}/ca.crt",
        _where_it_is_read_only(f"{BALANCER_FILES}/", f"echo foreign >{BALANCER_FILES}/ca.crt"),
        f"grep -q CERTIFICATE {BALANCER_FILES}/ca.crt",
        (f"{BALANCER_FILES}/ca.crt",),
        (BALANCER_UNIT,),
    ),
    removed("crictl-removed", "web-1", RUNTIME, CRICTL),
    image("image-of-unknown-archive", "web-2", f"label {PROXY} {_ARCHIVE}="),
    edited("kubelet-drop-in-edited", "web-2", RUNTIME, DROP_IN, KUBELET),
    Drift(
        "kubelet-drop-in-foreign",
        "web-2",
        RUNTIME,
        FOREIGN_DROP_IN,
        _where_it_is_read_only(FOREIGN_DROP_IN, f"echo 'maxPods: 7' >{FOREIGN_DROP_IN}"),
        f"test ! -e {FOREIGN_DROP_IN}",
        restarts=(KUBELET,),
    ),
    edited("profile-edited", "web-2", RUNTIME, "/etc/profile.d/kubewright.sh"),
    edited("modules-edited", "web-2", RUNTIME, "/etc/modules-load.d/kubewright.conf"),
    removed("boot-removal-removed", "web-1", RUNTIME, "/etc/tmpfiles.d/kubewright.conf"),
    mode("network-directory-writable", "web-2", RUNTIME, "/etc/cni/net.d", "777"),
    network(
        "network-configuration-edited",
        "ConfigMap flannel",
        "--namespace=kube-flannel patch configmap flannel --type=merge"
        """ --patch='{"data":{"net-conf.json":"{}"}}'""",
        "kubectl --namespace=kube-flannel get configmap flannel --output='jsonpath={.data}'"
        " | grep -q vxlan",
    ),
    network(
        "network-role-deleted",
        "ClusterRole flannel",
        "delete clusterrole flannel",
        "kubectl get clusterrole flannel",
    ),
)

#: Services, and files beside them.
SERVICES = (
    Drift(
        "place-made-writable",
        "web-2",
        VOLUME,
        "/etc/kubernetes is writable",
        "mount -o remount,bind,rw /etc/kubernetes",
        "! touch /etc/kubernetes/foreign",
        restarts=(SEAL,),
    ),
    edited("containerd-unit-edited", "cp-1", RUNTIME, f"{UNITS}/{CONTAINERD}", CONTAINERD),
    mode("etcd-readable", "cp-1", CONTROL_PLANE, "/var/lib/etcd", "755"),
    owner("haproxy-given-away", "cp-1", BALANCER, f"{BALANCER_FILES}/haproxy.cfg"),
    removed("balancer-unit-removed", "cp-2", BALANCER, f"{UNITS}/{BALANCER_UNIT}", BALANCER_UNIT),
    removed("config-removed", "cp-2", RUNTIME, CONFIG, CONTAINERD),
    disabled("image-mount-disabled", "cp-2", VOLUME, "opt-kubewright.mount"),
    disabled("kubelet-disabled", "cp-2", RUNTIME, KUBELET),
    Drift(
        "file-made-a-link",
        "cp-2",
        RUNTIME,
        CRICTL,
        f"mv {CRICTL} /run/foreign\nln -s /run/foreign {CRICTL}",
        f"test -f {CRICTL} && test ! -L {CRICTL}",
        rewrites=(CRICTL,),
    ),
    # systemctl refuses to mask a unit whose file lies in /etc, and a mask in /run has no effect
    # then: whoever wants it masked moves the file away first.
    Drift(
        "kubelet-masked",
        "cp-3",
        RUNTIME,
        KUBELET,
        f"rm {UNITS}/{KUBELET}\nsystemctl mask {KUBELET}",
        f'test "$(systemctl is-enabled {KUBELET})" = enabled && systemctl is-active {KUBELET}',
        (f"{UNITS}/{KUBELET}",),
        (KUBELET,),
    ),
    Drift(
        "directory-removed",
        "cp-3",
        RUNTIME,
        "/opt/cni/bin",
        "rm -r /opt/cni/bin",
        "test -d /opt/cni/bin",
        rewrites=("/opt/cni/bin",),
    ),
    owner("authority-given-away", "cp-3", CONTROL_PLANE, f"{PKI}/front-proxy-ca.crt"),
    stopped("kubelet-stopped", "web-1", WORKER, KUBELET),
    stopped("balancer-stopped", "web-1", BALANCER, BALANCER_UNIT),
    disabled("containerd-disabled", "web-1", RUNTIME, CONTAINERD),
    image("image-removed", "web-1", f"rm {PROXY}"),
    labeled("region-removed", "web-1", WORKER, "topology.kubernetes.io/region", "-"),
    # As a restart of nftables.service does. Whose rules they were does not notice.
    Drift(
        "packet-rules-flushed",
        "web-1",
        WORKER,
        "the packet rules of kube-proxy are gone",
        "nft flush ruleset",
        "nft list map ip kube-proxy service-ips | grep -q kube-dns"
        " && nft list chain ip flannel-ipv4 postrtg | grep -q masquerade",
        containers=("flannel",),
        # It writes its rules by itself when a Service changes, as other drifts here make one do.
        perhaps=("kube-proxy",),
    ),
    stopped("containerd-stopped", "web-2", RUNTIME, CONTAINERD),
    disabled("balancer-disabled", "web-2", BALANCER, BALANCER_UNIT),
    removed("kubelet-drop-in-removed", "web-2", RUNTIME, DROP_IN, KUBELET),
    edited("image-mount-edited", "web-2", VOLUME, f"{UNITS}/opt-kubewright.mount"),
    network(
        "network-namespace-closed",
        "Namespace kube-flannel",
        "label namespace kube-flannel pod-security.kubernetes.io/enforce-",
        "kubectl get namespaces --selector=pod-security.kubernetes.io/enforce=privileged"
        " --output=name | grep -qx namespace/kube-flannel",
    ),
    # OnDelete: no pod starts with the wrong port, and mending has none to replace.
    network(
        "network-daemon-edited",
        "DaemonSet flannel",
        "--namespace=kube-flannel patch daemonset flannel --type=strategic --patch="
        """'{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null},"""
        """"template":{"spec":{"containers":[{"name":"flannel","env":"""
        """[{"name":"KUBERNETES_SERVICE_PORT","value":"7444"}]}]}}}}'""",
        "kubectl --namespace=kube-flannel get daemonset flannel --output='jsonpath={.spec}'"
        " >/run/mended && grep -q RollingUpdate /run/mended && ! grep -q 7444 /run/mended",
    ),
    # The last one: meanwhile the node forwards no packet of a pod.
    Drift(
        "forwarding-off",
        "web-2",
        RUNTIME,
        "net.ipv4.ip_forward",
        "echo 0 >/proc/sys/net/ipv4/ip_forward",
        "grep -qx 1 /proc/sys/net/ipv4/ip_forward",
        restarts=(SYSCTL_UNIT,),
    ),
)

#: One file on every node, which nothing reads: for tests of who may write.
EVERYWHERE = tuple(edited(f"crictl-edited-{node}", node, RUNTIME, CRICTL) for node in NODES)
