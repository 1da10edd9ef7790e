# SPDX-License-Identifier: Apache-2.0
"""A virtual machine as clouds have it becomes a node, through boots and a power cut, and back.

Debian 13, cgroup v2, systemd 257; cloud-init writes /etc/hosts at each boot; a user with sudo; a
disk for the system volume. No check is relaxed. Each test relies on the ones before it.
"""

from __future__ import annotations

import fnmatch
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import host_snapshot
import kube as api
import pytest
import sealed
import workload
import yaml
from cluster import COMMAND, VERSION, Ended, Running
from guests import DEVICE, USER, Guest, Image, guests
from kube import Kube
from lan import lan
from machines import IMAGE_ROOT, IMPORT_IMAGES, CommandFailed
from waiting import NotYet, until

from kubewright.image.paths import cache_dir

#: Limits in seconds of this host, where a second of the guest's takes seven and more.
BOOT, COMMANDS, READY, ANSWER = 1800, 5400, 2400, 600
UNHEALTHY = 3
APP = "app"
API_NAME = "kubernetes.default.svc.cluster.local"
#: What is read-only on a node.
SEALED = (*sealed.PLACES, IMAGE_ROOT)
#: The Services that every cluster has: the API, and DNS by TCP.
SERVICES = (("10.96.0.1", 443), ("10.96.0.10", 53))
#: What each boot of a guest changes by itself, as lines of a difference: found by comparing boots
#: of one that Kubewright had never been on.
OF_EACH_BOOT = (
    # cloud-init's notes: times, how far it came, and user data packed again with other boundaries.
    "files: /run/cloud-init/ds-identify.log was *",
    "files: /var/lib/cloud/data/status.json was *",
    "files: /var/lib/cloud/instances/*/boot-finished was *",
    "files: /var/lib/cloud/instances/*/obj.pkl was *",
    "files: /var/lib/cloud/instances/*/*-data*.txt.i was *",
    # libblkid's cache, with the time of each look.
    "files: /run/blkid/blkid.tab was *",
    "files: /run/blkid/blkid.tab.old was *",
    # Sized by the memory that is free at that moment of the kernel's start.
    "sysctls: fs/fanotify/max_user_marks was *",
    "sysctls: user/max_fanotify_marks was *",
)

pytestmark = pytest.mark.timeout(BOOT + COMMANDS + READY)


@dataclass(frozen=True)
class Site:
    """The user's files for a guest, and what is measured, in both times."""

    directory: Path
    guest: Guest
    measured: Callable[[str, object], None]

    def write(self) -> None:
        """Write cluster.yml."""
        guest = self.guest
        node = {"name": guest.name, "address": guest.port.address, "host_keys": [guest.host_key]}
        spec = {
            "plugin": "kubewright.cluster.spec",
            "name": "kwvm",
            "version": VERSION,
            "ssh": {"user": USER, "private_key_file": str(guest.user_key)},
            "control_plane": {
                "provider": "static",
                "nodes": [node],
                "system_volume": {"type": "block", "device": DEVICE},
            },
            "pools": [],
        }
        (self.directory / "cluster.yml").write_text(yaml.safe_dump(spec, sort_keys=False))

    def command(self, *words: str) -> Ended:
        """Run the command to its end. When it begins, the guest's clock is right."""
        self.guest.set_clock()
        state = {"KUBEWRIGHT_STATE_DIR": str(self.directory / "state"), "NO_COLOR": "1"}
        command = [str(COMMAND), *words]
        return Running(command, self.directory, {**os.environ, **state}).ended(COMMANDS)

    def apply(self, name: str) -> Ended:
        """Run ``apply``, which has to succeed."""
        with self.timed(name):
            return self.command("apply", "--yes", "-o", "json").succeeded()

    def healthy(self) -> None:
        """Wait until ``status`` says so: its limits, such as 10 s for a node, are of this host."""

        def look() -> None:
            ended = self.command("status", "-o", "json")
            if ended.status == UNHEALTHY:
                raise NotYet(str(ended.document["troubles"]))
            ended.succeeded()

        until("healthy", look, limit=ANSWER)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measure what is done, in seconds of the guest's and of this host's."""
        uptime, moment = self.guest.uptime(), time.monotonic()
        yield
        self.took(name, self.guest.uptime() - uptime, time.monotonic() - moment)

    def took(self, name: str, its: float, ours: float) -> None:
        """Note what was measured."""
        self.measured(name, f"{its:.0f} s of the guest's, {ours:.0f} s of this host's")


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, measured: Callable[[str, object], None]
) -> Iterator[Site]:
    """A guest that has booted, and the user's files for it.

    It has booted twice: at the first boot cloud-init and systemd do what they never do again.
    """
    directory = tmp_path_factory.mktemp("vm")
    image = Image.make(cache_dir() / "vm")
    with lan(), guests(["alpha"], directory / "guests", image) as (guest,):
        made = Site(directory, guest, measured)
        made.write()
        try:
            wait_for_boot(made, "first boot")
            reboot(guest)
            wait_for_boot(made, "second boot")
            yield made
        finally:
            print(guest.console[-4000:])


@pytest.fixture(scope="module")
def before(site: Site) -> host_snapshot.Snapshot:
    """What was on it before Kubewright."""
    return snapshot(site.guest)


@pytest.fixture
def kube(site: Site, kubectl: Path, tmp_path: Path) -> Kube:
    """Clients of the cluster."""
    path = tmp_path / "kubeconfig"
    path.write_text(site.command("kubeconfig").succeeded().stdout)
    return Kube(path, kubectl)


def test_it_is_what_it_should_be(site: Site, before: host_snapshot.Snapshot) -> None:
    guest = site.guest
    assert (
        guest.run("stat", "--file-system", "--format=%T", "/sys/fs/cgroup").strip() == "cgroup2fs"
    )
    assert "systemd 257" in guest.run("systemctl", "--version")
    assert "manage_etc_hosts" in guest.run("cat", "/etc/hosts")
    assert failed_units(guest) == ""


def test_it_becomes_a_cluster(site: Site) -> None:
    made = site.apply("apply, all that is there to do")
    assert made.document["changed"] is True
    assert [one for one in made.document["findings"] if one["severity"] == "fatal"] == []
    site.healthy()


def test_an_apply_again_changes_nothing(site: Site) -> None:
    assert site.apply("apply, nothing to do").document["changed"] is False


def test_a_pod_runs_with_exec_and_logs(site: Site, kube: Kube, tmp_path: Path) -> None:
    busybox = workload.fetch_busybox(cache_dir() / "downloads", tmp_path)
    archive = tmp_path / "image.tar"
    workload.make_archive(busybox, archive)
    site.guest.run(*IMPORT_IMAGES, stdin=archive.read_bytes())
    wanted = workload.deployment(APP)
    taint = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}
    wanted["spec"]["template"]["spec"]["tolerations"] = [taint]
    kube.apps.create_namespaced_deployment("default", wanted)
    pod = running_pod(kube)
    assert kube.kubectl("exec", pod, "--", "hostname", limit=ANSWER).strip() == pod
    assert kube.kubectl("logs", pod, limit=ANSWER).strip() == "serving"


def test_pods_and_the_node_reach_services(site: Site, kube: Kube) -> None:
    reach_services(site, kube, running_pod(kube))


def test_what_is_sealed_takes_no_writes(site: Site) -> None:
    assert taking_writes(site.guest) == []


def test_what_somebody_changed_is_put_back(site: Site) -> None:
    guest = site.guest
    script = (
        "rm /etc/sysctl.d/90-kubewright.conf; sysctl -q net.ipv4.ip_forward=0; "
        "systemctl disable --now --quiet kubewright-balancer.service; "
        "kubewright-maintenance sh -c 'echo drifted >>/etc/kubewright/containerd/config.toml'"
    )
    guest.run("sh", "-ec", script)
    planned = site.command("plan", "-o", "json").succeeded().document
    (node,) = planned["nodes"]
    assert node["state"] == "drifted", planned
    assert site.apply("apply, drift").document["changed"] is True
    assert guest.run("sysctl", "--values", "net.ipv4.ip_forward").strip() == "1"
    assert guest.run("systemctl", "is-active", "kubewright-balancer.service").strip() == "active"
    assert "drifted" not in guest.run("cat", "/etc/kubewright/containerd/config.toml")
    site.healthy()


def test_it_is_ready_after_a_reboot(site: Site, kube: Kube) -> None:
    moment = time.monotonic()
    reboot(site.guest)
    is_whole(site, kube, "reboot", moment)


def test_it_is_ready_after_a_power_cut(site: Site, kube: Kube) -> None:
    moment = time.monotonic()
    site.guest.power_off()
    site.guest.power_on()
    is_whole(site, kube, "power cut", moment)


def test_a_reset_leaves_it_as_it_was(site: Site, before: host_snapshot.Snapshot) -> None:
    with site.timed("reset"):
        site.command("reset", "--yes", "-o", "json").succeeded()
    changed = [
        line
        for line in host_snapshot.diff(before, snapshot(site.guest))
        if not any(fnmatch.fnmatchcase(line, pattern) for pattern in OF_EACH_BOOT)
    ]
    assert not changed, "\n".join(changed)
    assert site.guest.run("wipefs", "--no-act", DEVICE) == ""
    profiles = site.guest.run("cat", "/sys/kernel/security/apparmor/profiles")
    assert "containerd" not in profiles


def is_whole(site: Site, kube: Kube, name: str, moment: float) -> None:
    """Wait for a node that has booted to be Ready with its pods; look whether all is at work."""
    guest = site.guest
    wait_for_boot(site, f"{name}, until it has booted")
    began = datetime.fromtimestamp(
        float(guest.run("date", "+%s.%N").strip()) - guest.uptime(), tz=UTC
    )
    until("Ready", api.all_ready(kube, frozenset([guest.name]), began), limit=READY)
    pod = running_pod(kube, began)
    site.took(f"{name}, until Ready with its pods", guest.uptime(), time.monotonic() - moment)
    assert "manage_etc_hosts" in guest.run("cat", "/etc/hosts"), "cloud-init was there"
    assert failed_units(guest) == ""
    reach_services(site, kube, pod, began)
    assert taking_writes(guest) == []
    site.healthy()
    assert site.apply(f"apply after a {name}").document["changed"] is False


def running_pod(kube: Kube, since: datetime | None = None) -> str:
    """Wait for the pod of APP to run, since then where it is told; return its name."""
    until("available", api.available(kube, "default", APP, since), limit=READY)
    (found,) = kube.core.list_namespaced_pod("default", label_selector=f"app={APP}").items
    return str(found.metadata.name)


def wait_for_boot(site: Site, name: str) -> None:
    """Return when its boot is over."""
    moment = time.monotonic()
    until("booted", site.guest.booted, limit=BOOT, interval=5)
    site.took(name, site.guest.uptime(), time.monotonic() - moment)


def failed_units(guest: Guest) -> str:
    """What systemd says has failed, a line each."""
    return guest.run("systemctl", "list-units", "--failed", "--plain", "--no-legend")


def reboot(guest: Guest) -> None:
    """Reboot it; return when it answers again."""
    boot = guest.boot_id()
    guest.run("systemd-run", "--quiet", "systemctl", "reboot")
    until("rebooted", lambda: another_boot(guest, boot), limit=BOOT, interval=5)


def another_boot(guest: Guest, before: str) -> None:
    """A look for a machine that has booted since."""
    try:
        now = guest.boot_id()
    except CommandFailed as error:
        raise NotYet(str(error)) from error
    if now == before:
        raise NotYet("it has not gone down yet")


def reach_services(site: Site, kube: Kube, pod: str, since: datetime | None = None) -> None:
    """Fail where the node or a pod does not reach the Services that every cluster has.

    After a boot cluster DNS comes last: nothing of the node's waits for it.
    """
    until("available: coredns", api.available(kube, "kube-system", "coredns", since), limit=READY)
    for address, port in SERVICES:
        site.guest.run("timeout", "10", "bash", "-c", f"</dev/tcp/{address}/{port}")
    asked = kube.kubectl("exec", pod, "--", "nslookup", API_NAME, limit=ANSWER)
    assert SERVICES[0][0] in asked


def taking_writes(guest: Guest) -> list[str]:
    """The sealed places that do not refuse a write as read-only, in words."""
    return guest.run(*sealed.look(*SEALED)).splitlines()


def snapshot(guest: Guest) -> host_snapshot.Snapshot:
    """What is on it."""
    text = Path(host_snapshot.__file__).read_bytes()
    found: host_snapshot.Snapshot = json.loads(guest.run("python3", "-", stdin=text, limit=BOOT))
    return found
