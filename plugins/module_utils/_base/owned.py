# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a node has because it is one. Names only, no I/O.

Ours, and what is Kubernetes's, containerd's or flannel's by its name. Sources, all of the releases
in the catalogue: kubeadm reset.go; kubelet container_manager_linux.go, kubelet_network_linux.go;
kube-proxy conntrack/sysctls.go, nftables/proxier.go; flannel trafficmngr/nftables; containerd
services/opt, internal/nri, pkg/netns; CNI plugins bridge, portmap, host-local.
"""

from __future__ import annotations

import re
from collections.abc import Collection

MARK = b"Managed by Kubewright"

# Stopped in this order; each only where its unit file is ours.
KUBELET = "kubelet.service"
KUBELET_STATE = "/var/lib/kubelet"
BALANCER = "kubewright-balancer.service"
RUNTIME = ("containerd.service", BALANCER)
MOUNT_UNITS = ("opt-kubewright.mount", "etc-kubewright.mount", "etc-kubernetes.mount")
VOLUME_MOUNT = "var-lib-kubewright-system.mount"
VOLUME_UNITS = ("kubewright-seal.service", VOLUME_MOUNT)
# What would run other units again.
TRIAL = ("kubewright-trial.path", "kubewright-trial.service")
GUARDS = (
    "kubewright-image-verify.timer",
    "kubewright-image-verify.service",
    "kubewright-volume-ready.service",
    "kubewright-volume-check.service",
)
UNITS = (*TRIAL, KUBELET, *RUNTIME, *GUARDS, *MOUNT_UNITS, *VOLUME_UNITS)
UNIT_DIRECTORY = "/etc/systemd/system"

# Units of the system's that ours start, and that nothing else may have wanted.
TARGETS = ("network-online.target",)

STATE = "/var/lib/kubewright"
VOLUME = f"{STATE}/system"
VOLUME_FILE = f"{STATE}/volume.ext4"
VOLUME_LABEL = "kubewright"
IMAGE = "/opt/kubewright"
# Mounted from the volume.
MOUNTED = ("/etc/kubewright", "/etc/kubernetes")
VOLUME_MOUNTED = (f"{STATE}/incoming", VOLUME)
LOCKS = "/run/kubewright"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
HOSTS, HOSTS_MARKER = "/etc/hosts", "api"
SYSCTL_FILE = "/etc/sysctl.d/90-kubewright.conf"

# Stands for the home of who logs in and becomes root, as "~" does for root's.
LOGIN = "~login"

# Whole files of ours. Where another one had the name before, it comes back.
FILES = (
    *(f"{UNIT_DIRECTORY}/{name}" for name in UNITS),
    "/etc/crictl.yaml",
    "/usr/local/sbin/kubewright-maintenance",
    "/etc/profile.d/kubewright.sh",
    SYSCTL_FILE,
    "/etc/modules-load.d/kubewright.conf",
    "/etc/tmpfiles.d/kubewright.conf",
    "/etc/cni/net.d/10-flannel.conflist",
)
# Goes only where it was not there before: others use it as well.
SHARED_FILES = ("/run/xtables.lock",)

# Directories that go with all that is in them. Where one was there before (a disk of its own, or
# another program's), it stays with what it had.
TREES = (
    "/etc/kubernetes",
    "/etc/kubewright",
    "/run/containerd",
    "/run/flannel",
    "/run/nri",
    "/usr/libexec/kubernetes",
    "/var/lib/cni/flannel",
    "/var/lib/cni/networks/cbr0",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/opt/kubewright",
    "~/.kube/cache",
)
# Patterns in directories that others use as well.
PATTERNS = (
    ("/var/lib/cni/results", "cbr0-*"),
    # containerd's own, of each pod; it is named in its code (internal/cri/server).
    ("/var/lib/cni/results", "cni-loopback-*"),
    ("/tmp", "ansible_kubewright.cluster.*_payload_*"),
)
# Removed when they are empty and were not there before; the deepest first.
DIRECTORIES = (
    f"{UNIT_DIRECTORY}/local-fs.target.wants",
    f"{UNIT_DIRECTORY}/multi-user.target.wants",
    f"{UNIT_DIRECTORY}/paths.target.wants",
    f"{UNIT_DIRECTORY}/timers.target.wants",
    "/etc/cni/net.d",
    "/etc/cni",
    "/etc/modules-load.d",
    "/etc/profile.d",
    # What static pods and kube-proxy mount; the runtime makes it where it is missing.
    "/etc/ssl/certs",
    "/etc/ssl",
    "/lib/modules",
    "/etc/sysctl.d",
    "/etc/tmpfiles.d",
    "/opt/cni/bin",
    "/opt/cni",
    "/opt/containerd/bin",
    "/opt/containerd/lib",
    "/opt/containerd",
    "/opt",
    "/run/netns",
    "/usr/libexec",
    "/usr/local/sbin",
    "/usr/local",
    "/var/lib/cni/networks",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "~/.ansible/tmp",
    "~/.ansible",
    f"{LOGIN}/.ansible/tmp",
    f"{LOGIN}/.ansible",
    "~/.kube",
)

# What is mounted at one of these or below is a pod's or containerd's.
MOUNTS = ("/run/containerd", "/var/lib/containerd", "/var/lib/kubelet")
NETWORK_NAMESPACES, NETWORK_NAMESPACE = "/run/netns", "cni-*"

BRIDGE = "cni0"
LINKS = (BRIDGE, "flannel.1", "flannel-v6.1", "kube-ipvs0")

# nftables' tables: (family, name).
TABLES = frozenset(
    {
        ("ip", "kube-proxy"),
        ("ip6", "kube-proxy"),
        ("ip", "flannel-ipv4"),
        ("ip6", "flannel-ipv6"),
        ("ip", "cni_hostport"),
        ("ip6", "cni_hostport"),
        ("inet", "cni_plugins_masquerade"),
    }
)
# Chains in tables of iptables that others use as well.
CHAIN = re.compile(r"(KUBE|CNI|FLANNEL)-.+")

# What containerd has the kernel confine its containers with, where that has AppArmor
# (internal/cri/server, appArmorDefaultProfileName). It loads it anew when it needs it.
APPARMOR_PROFILE = "cri-containerd.apparmor.d"
APPARMOR = "/sys/kernel/security/apparmor"

# Control groups of pods, and of what outlives containerd and the kubelet.
POD_GROUPS = ("kubepods", "kubepods.slice")
SERVICE_GROUPS = ("containerd.service", KUBELET)

# Kernel settings that we, the kubelet, kube-proxy, flannel or a CNI plugin change, or that the
# kernel changes with them: ip_forward takes all interfaces along. The last part may be a pattern.
SYSCTLS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "net/bridge/bridge-nf-call-*",
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/accept_redirects",
    "net/ipv4/conf/all/arp_announce",
    "net/ipv4/conf/all/arp_ignore",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/*/forwarding",
    "net/ipv6/conf/*/forwarding",
    "net/netfilter/nf_conntrack_buckets",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "net/netfilter/nf_conntrack_udp_timeout",
    "net/netfilter/nf_conntrack_udp_timeout_stream",
)


def is_below(path: str, directory: str) -> bool:
    """Whether *path* is *directory* or lies in it."""
    return path == directory or path.startswith(f"{directory}/")


def is_in_group(groups: str, services: Collection[str]) -> bool:
    """Whether a process with this ``/proc/<pid>/cgroup`` is in a pod or one of *services*.

    Pods of this machine are in the first group, cgroups(7); deeper ones are of a Kubernetes that
    runs in a container here.
    """
    for line in groups.splitlines():
        parts = line.split(":", 2)[-1].strip("/").split("/")
        if parts[0] in POD_GROUPS:
            return True
        if parts[0] == "system.slice" and parts[1:2] and parts[1] in services:
            return True
    return False
