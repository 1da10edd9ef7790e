# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Where a node is not what its roles desire. Reads only.

A role's document is a mapping of sections, each the input of what writes it, so that what is
compared here and what is written there can't differ. `_parts` makes all of them but

    digests             of secrets only their SHA-256, by path: to compare
    membership          {role, cluster_id}: the module kubeadm
    certificates        true: the module certificates
    objects             of the whole cluster, seen from a control plane: cluster_objects
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._base.findings import Finding
from ansible_collections.kubewright.cluster.plugins.module_utils._files import differences, options
from ansible_collections.kubewright.cluster.plugins.module_utils._files.differences import Change
from ansible_collections.kubewright.cluster.plugins.module_utils._files.options import Desired
from ansible_collections.kubewright.cluster.plugins.module_utils._image import containers, images
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    client,
    endpoint,
    kubelet,
    kubelet_settings,
    memberships,
    node_object,
    objects,
    packet_rules,
    pod_network,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import facts
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import certificates, guard
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode.certificates import (
    Certificate,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemctl, systemd
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import plan

IMAGE_ROOT = Path("/opt/kubewright")
CONTAINERD = "/run/containerd/containerd.sock"
COMMAND_SECONDS = 60.0
VERIFIED_SECONDS = 3 * 86400.0  # a node verifies its image each day
DONE_WORDS = {
    "started": "is not running",
    "stopped": "is running",
    "restarted": "runs with older settings",
    "enabled": "is not enabled",
    "disabled": "is enabled",
    "masked": "is not masked",
    "unmasked": "is masked",
}


@dataclass
class Findings:
    """What was found: reasons by role, diffs, and what could not be looked at.

    `node`: what the API says of this node, empty while it is not known. `node_missing`: whether it
    says that there is none. `findings`: what is as it should be, and yet not as somebody would
    expect.
    """

    drift: dict[str, list[str]] = field(default_factory=dict)
    diffs: list[dict[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    node: dict[str, Any] = field(default_factory=dict)
    node_missing: bool = False
    findings: list[Finding] = field(default_factory=list)


@dataclass
class Comparison:
    """One node against its documents. `api`: servers, and the name in their certificates.

    `certificates`: this node's, of one that has joined.
    """

    run: commands.Runner
    membership: memberships.Membership
    api_servers: Sequence[str] = ()
    api_name: str = ""
    certificates: Sequence[Certificate] = ()
    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    found: Findings = field(default_factory=Findings)
    _changed_paths: set[str] = field(default_factory=set)
    _image_changes: bool = False
    _silent: bool = False

    def compare(self, documents: Mapping[str, Mapping[str, Any]]) -> Findings:
        """Every role's document, in order: a later one knows what an earlier one would do."""
        told: set[str] = set()
        for role, document in documents.items():
            reasons = [reason for section in self._sections(document) for reason in section]
            if own := [reason for reason in dict.fromkeys(reasons) if reason not in told]:
                self.found.drift[role] = own
            told.update(reasons)
        return self.found

    def _sections(self, document: Mapping[str, Any]) -> Iterable[list[str]]:
        if member := document.get("membership"):
            yield _membership_reasons(self.membership, member)
            if self.membership.phase != "joined":
                return
        digests = document.get("digests") or {}
        steps: tuple[tuple[str, Callable[[Any], list[str]]], ...] = (
            ("certificates", lambda _: certificates.reasons(self.certificates, self.now)),
            ("files", lambda files: self._files(files, digests)),
            ("endpoint", lambda client: endpoint.reasons(client["name"])),
            ("volume", self._volume),
            ("volume", lambda volume: self._units(volume.get("units") or [])),
            ("image", self._image),
            ("units", self._units),
            ("kubelet", self._kubelet),
            ("container_images", self._container_images),
            ("node", self._node),
            ("node", self._packet_rules),
            ("objects", self._objects),
        )
        for name, look in steps:
            if not document.get(name):
                continue
            # What a person has to mend is said like the rest, and hides nothing else.
            try:
                yield look(document[name])
            except (KubewrightError, OSError) as error:
                yield [str(error)]

    def _files(self, files: Sequence[Mapping[str, Any]], digests: Mapping[str, str]) -> list[str]:
        changes, refused = self._changes(options.parse(files, {}, digests))
        return [*(change.reason() for change in changes), *refused]

    def _changes(self, entries: Sequence[Desired]) -> tuple[list[Change], list[str]]:
        """What differs, and what a person has to mend."""
        refused: list[str] = []
        changes = differences.find(entries, refused)
        self._changed_paths |= {str(change.desired.path) for change in changes if change.rewrites}
        self.found.diffs += [change.diff() for change in changes]
        return changes, refused

    def _volume(self, volume: Mapping[str, Any]) -> list[str]:
        wanted = plan.parse(volume)
        words = {
            "create": "is blank" if wanted.is_device else "is missing",
            "grow": "has room to grow"
            if wanted.is_device
            else f"is smaller than {wanted.size} bytes",
            "preallocate": "has space that is not allocated",
        }
        steps = plan.steps(wanted, self.run)
        wrong = [] if "create" in steps else guard.troubles(wanted.mount_point)
        return [*(f"{wanted.path} {words[step]}" for step in steps), *wrong]

    def _image(self, image: Mapping[str, Any]) -> list[str]:
        digest, store = image["digest"], images.Store(Path(image["volume"]))
        active = store.active() if store.is_mounted() else None
        if active is None or active.digest != digest:
            self._image_changes = True
            # Whoever has to be younger than the link is restarted when it is switched.
            self._changed_paths.add(str(store.volume / "active"))
            old = f"{active.digest[:12]} is active" if active else "none is active"
            if active and (reason := store.condemned(digest)):
                old += f", since the node tried it and rolled back: {reason}"
            return [f"system image {digest[:12] or 'that is not built yet'}: {old}"]
        verdict = store.verdict(digest)
        if verdict is None or verdict.age() > VERIFIED_SECONDS:
            self.found.unknown.append(
                f"whether image {digest[:12]} is sound: it was last verified "
                f"{f'at {verdict.at}' if verdict else 'never'}. "
                "Verify it on the node: `systemctl start kubewright-image-verify`"
            )
        elif not verdict.sound:
            self._image_changes = True
            self._changed_paths.add(str(store.volume / "active"))
            return [
                f"system image {digest[:12]} is damaged on disk, as the node found at "
                f"{verdict.at} ({verdict.found[:80]}); it will be installed "
                "again. If this happens again, check the node's disk and memory"
            ]
        mounted = facts.loop_file(IMAGE_ROOT)
        if mounted != store.image(digest).name:
            self._image_changes = True
            return [f"{IMAGE_ROOT}: {mounted or 'nothing'} is mounted instead of {digest[:12]}"]
        return []

    def _units(self, units: Sequence[Mapping[str, Any]]) -> list[str]:
        wanted = [systemd.parse_wanted(unit) for unit in units]
        return self._unit_reasons(wanted)[0] if wanted else []

    def _kubelet(self, desired: Mapping[str, Any]) -> list[str]:
        joined, started = self.membership.phase == "joined", bool(desired.get("started"))
        flags = desired.get("flags") or {} if joined else {}
        entries = kubelet_settings.entries(desired.get("files") or [], flags)
        changes, refused = self._changes(entries)
        reasons = [
            *(change.reason() for change in changes if change.desired.path != kubelet.FLAGS),
            *(
                f"the kubelet has --{name}={kubelet.flag(name)} instead of {value}"
                for name, value in flags.items()
                if kubelet.FLAGS.exists() and kubelet.flag(name) != value
            ),
            *refused,
        ]
        told, units = self._unit_reasons([kubelet_settings.wanted(entries, started)])
        reasons += told
        if joined and started:
            now, monotonic = time.time(), time.monotonic_ns() // 1000
            unit = units[kubelet.UNIT]
            looping = kubelet.loop(self.run, unit, now, monotonic)
            reasons.append(looping or kubelet.silent(unit, monotonic))
        elif joined:
            unproven = kubelet_settings.Record().exists()
            reasons.append(kubelet_settings.UNPROVEN if unproven else "")
        return [reason for reason in reasons if reason]

    def _unit_reasons(
        self, wanted: Sequence[systemd.Wanted]
    ) -> tuple[list[str], Mapping[str, systemd.Unit]]:
        """What has to be done to units, and how they are."""
        services = systemctl.Services(
            self.run, COMMAND_SECONDS, True, frozenset(self._changed_paths)
        )
        report = services.converge(wanted)
        clock = systemctl.clock_for(wanted)
        silent = {
            want.name: clock.silent[want.answers]
            for want in wanted
            if want.name in report.restarted and want.answers in clock.silent
        }
        reasons = [
            *(
                f"{name} {DONE_WORDS[done]}"
                for done, names in report.actions().items()
                for name in names
                if name not in silent
            ),
            *(
                f"{name}: systemd has not reloaded its changed unit file"
                for name, unit in report.before.items()
                if unit.needs_reload
            ),
            *_undone(wanted, clock),
            *silent.values(),
        ]
        self._silent = self._silent or bool(silent)
        return reasons, report.before

    def _container_images(self, _: bool) -> list[str]:
        if self._image_changes:
            return ["the container images come with the system image"]
        if self._silent:
            return []  # it is said already, and would not list them
        missing = containers.predicted(IMAGE_ROOT, self._containerd)
        if missing is None:
            return ["no system image is mounted"]
        if not self._containerd.listens():
            return ["containerd does not answer, so its images can't be listed"]
        return [f"image {image.name} is missing" for image in missing.to_import] + [
            f"image {name} is not pinned" for name in missing.to_pin
        ]

    @property
    def _containerd(self) -> containers.Containerd:
        program = IMAGE_ROOT / "bin" / "ctr"
        return containers.Containerd(program, CONTAINERD, self.run, COMMAND_SECONDS)

    def _node(self, desired: Mapping[str, Any]) -> list[str]:
        if certificates.over(self.certificates, self.now, certificates.KUBELET_CLIENT):
            self.found.unknown.append(
                f"Node {desired['name']}: the kubelet's certificate must be renewed first"
            )
            return []
        try:
            with client.as_kubelet(self.api_servers, self.api_name) as api:
                live = api.get(client.node_path(desired["name"]))
        except (client.ApiUnreachable, client.ApiError) as error:
            self.found.unknown.append(f"Node {desired['name']}: {error}")
            return []
        if live is None:
            self.found.node_missing = True
            return [f"Node {desired['name']} is missing and will be registered again"]
        self.found.node = {
            "ready": client.conditions(live).get("Ready") == "True",
            "unschedulable": bool(live["spec"].get("unschedulable")),
            "kubelet": live["status"]["nodeInfo"]["kubeletVersion"],
        }
        registered = desired.get("register_taints") or []
        self.found.findings += node_object.unregistered(live, registered)
        return [
            *([] if kubelet.registered(live) else [kubelet.UNREGISTERED]),
            *node_object.reasons(live, desired.get("labels") or {}, desired.get("taints") or []),
            *pod_network.reasons(live, desired.get("address") or ""),
        ]

    def _packet_rules(self, _: Mapping[str, Any]) -> list[str]:
        # Else it is said already, and who would write them can't be found.
        if not self.found.node or self._silent or not self._containerd.listens():
            return []
        with client.as_kubelet(self.api_servers, self.api_name) as api:
            return packet_rules.of(self.run, api).converge(check_mode=True)

    def _objects(self, desired: Sequence[Mapping[str, Any]]) -> list[str]:
        if self.membership.phase != "joined":
            return ["the cluster does not exist yet"]
        try:
            with client.as_administrator(self.api_servers, self.api_name) as api:
                return objects.reasons(api, desired)
        except (client.ApiUnreachable, client.ApiError) as error:
            self.found.unknown.append(f"objects of the cluster: {error}")
            return []


def _membership_reasons(now: memberships.Membership, wanted: Mapping[str, Any]) -> list[str]:
    if now.phase != "none" and now.cluster_id != wanted["cluster_id"]:
        return [f"it belongs to another cluster, with id {now.cluster_id}; reset it first"]
    if now.phase == "none":
        return ["it is not in the cluster"]
    if now.phase == "partial":
        return [f"its {now.operation}, or a reset, was interrupted"]
    if now.role != wanted["role"]:
        return [f"it joined as {now.role} and should be {wanted['role']}; reset it first"]
    return []


def _undone(wanted: Sequence[systemd.Wanted], clock: systemd.Clock) -> list[str]:
    """What units had brought about, and somebody has changed."""
    return [
        f"sysctl {name} is {' '.join(clock.sysctls[name].split())} instead of {want.sysctls[name]}"
        for want in wanted
        for name in systemd.foreign_sysctls(want, clock)
    ] + [
        f"{path} is writable"
        for want in wanted
        for path in want.read_only
        if path in clock.writable
    ]
