# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Make the parts of a node what its roles desire, in one go: what `_drift` compares is made here.

A role's document is a mapping of sections; those of this table, in this order:

    volume            the system volume: its file system; ``units`` mount it, before the image
    files             what lies where; of secrets the content is told apart
    image             the system image on the volume: brought, and made active
    units             units of systemd, restarted where their files are newer
    endpoint          where the node's own clients find the API
    container_images  those of the active system image, in containerd
    kubelet           its settings, with which it has to live; of all roles at once
    node              labels and taints of its Node, the network of its pods, packet rules

A document with ``membership`` is for a node that has joined: until then the module kubeadm sees to
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, limits
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    KubewrightError,
    message,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._cluster import claims
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import sealed
from ansible_collections.kubewright.cluster.plugins.module_utils._files import differences, options
from ansible_collections.kubewright.cluster.plugins.module_utils._image import (
    bringing,
    containers,
    digests,
    images,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import (
    client,
    endpoint,
    kubelet,
    kubelet_settings,
    memberships,
    own_node,
    packet_rules,
    pod_network,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import before
from ansible_collections.kubewright.cluster.plugins.module_utils._services import systemctl, systemd
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import ext4, plan

Document = Mapping[str, Any]
IMAGE_ROOT = Path("/opt/kubewright")
CONTAINERD = "/run/containerd/containerd.sock"


class PartFailed(KubewrightError):
    """A part could not be made what *role* desires; *error* says why."""

    def __init__(self, role: str, error: KubewrightError | OSError) -> None:
        super().__init__(f"{role}: {message(error)}")
        self.mark = getattr(error, "mark", "")


class ImageAwaited(Exception):
    """The controller has to send the image first. *told*: where to, and what is there already."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__("the image is awaited")
        self.told = told


@dataclass(frozen=True)
class Cluster:
    """How this node finds its own: the *node*'s name, API servers, the name they certify."""

    node: str = ""
    api_servers: Sequence[str] = ()
    api_name: str = ""


@dataclass
class Parts:
    """The parts of this node. *run* starts commands under its lock.

    *secrets*: contents by path. *transfer*: ``size``, ``arrived`` and ``transfer_owner`` of an
    image that the controller sends, as the module ``system_image`` takes them. *predict*: nothing
    is changed. What was done, or would be, is in `done`, by role, and in `diffs`.
    """

    run: commands.Runner
    cluster: Cluster = field(default_factory=Cluster)
    secrets: Mapping[str, Any] = field(default_factory=dict)
    transfer: Mapping[str, Any] = field(default_factory=dict)
    predict: bool = False
    done: dict[str, list[str]] = field(default_factory=dict)
    diffs: list[dict[str, str]] = field(default_factory=list)
    _changed_paths: set[str] = field(default_factory=set)

    def converge(self, documents: Mapping[str, Document]) -> None:
        """Every role's document, in order.

        Raises `PartFailed`; `ImageAwaited` where the image has to be sent before all else.
        """
        joined = memberships.read_membership().phase == "joined"
        concerned = {
            role: document
            for role, document in documents.items()
            if joined or not document.get("membership")
        }
        for role, document in concerned.items():
            for section, make in self._early():
                self._section(role, section, make, document)
        self._kubelet(concerned, joined)
        for role, document in concerned.items():
            self._section(role, "node", self._node, document)

    def _early(self) -> Iterator[tuple[str, Callable[[Document], list[str]]]]:
        """The sections of a document up to the kubelet, and who makes them."""
        yield "volume", lambda document: self._volume(document["volume"])
        yield "files", lambda document: self._files(document["files"])
        yield "volume", lambda document: self._units(document["volume"].get("units") or [])
        yield "image", lambda document: self._image(document["image"])
        yield "units", lambda document: self._units(document["units"])
        yield "endpoint", lambda document: self._endpoint(document["endpoint"])
        yield "container_images", lambda _: self._container_images()

    def _section(
        self,
        role: str,
        section: str,
        make: Callable[[Document], list[str]],
        document: Document,
    ) -> None:
        """Make one section, where *document* has it, within its own time."""
        if not document.get(section):
            return
        try:
            with limits.ends_within(limits.of_section(section, document)):
                words = make(document)
        except FORESEEN as error:
            raise PartFailed(role, error) from error
        if words:
            self.done.setdefault(role, []).extend(words)

    def _volume(self, volume: Document) -> list[str]:
        wanted = plan.parse(volume)
        steps = ext4.converge(wanted, self.run, self.predict)
        if not steps:
            return []
        name, did = str(wanted.path), ", ".join(steps)
        there = "blank\n" if "create" in steps else "ext4\n"
        self._show(name, there, f"ext4 {wanted.label}, {wanted.size} bytes ({did})\n")
        return [f"{name} ({did})"]

    def _files(self, files: Sequence[Document]) -> list[str]:
        secret = {str(one["path"]) for one in files if one.get("secret")}
        told = {path: text for path, text in self.secrets.items() if path in secret}
        changes = differences.find(options.parse(files, told))
        if not self.predict:
            differences.apply(changes)
        self._changed_paths |= {str(change.desired.path) for change in changes if change.rewrites}
        self.diffs += [change.diff() for change in changes]
        return [change.reason() for change in changes]

    def _image(self, image: Document) -> list[str]:
        store = images.Store(Path(image["volume"]))
        asked: dict[str, Any] = {"state": "active", "role": None, "url": "", "signers": []}
        asked |= {"again": False, **image, "size": None, "arrived": None, **self.transfer}
        asked["digest"] = digests.parse(str(image["digest"]))
        now = store.active()
        result = bringing.converge(store, asked, self.predict, self.run)
        if "transfer" in result:
            raise ImageAwaited({name: result[name] for name in ("transfer", "offset")})
        did = [word for word in ("installed", "activated") if result[word]]
        if not did:
            return []
        link = str(store.volume / "active")
        if result["activated"]:
            # Whoever has to be younger than the link is restarted when it is switched.
            self._changed_paths.add(link)
        old = f"image {now.digest if now else 'none'}\n"
        self._show(link, old, f"image {asked['digest']} ({', '.join(did)})\n")
        return [f"system image {asked['digest'][:12]} ({', '.join(did)})"]

    def _units(self, units: Sequence[Document]) -> list[str]:
        wanted = [systemd.parse_wanted(unit) for unit in units]
        if not wanted:
            return []
        settings = {name for want in wanted for name in want.sysctls}
        if settings and not self.predict:
            before.complete(claims.EPOCH_PATH.parent, settings)
        report = self._services(limits.SECTION_TIMEOUTS["units"]).converge(wanted)
        acted = any(report.actions().values())
        if acted and not self.predict:
            # Some may be mounts, which whoever goes on here has to see.
            sealed.open_for_this_process()
        self.diffs += report.diffs()
        return report.reasons()

    def _endpoint(self, own: Document) -> list[str]:
        servers = self.cluster.api_servers
        found = endpoint.converge(own["name"], own["address"], servers, self.run, self.predict)
        self._show("the API for the node's own clients", "".join(f"{one}\n" for one in found), "")
        return found

    def _container_images(self) -> list[str]:
        seconds = limits.SECTION_TIMEOUTS["container_images"]
        containerd = containers.Containerd(IMAGE_ROOT / "bin/ctr", CONTAINERD, self.run, seconds)
        missing = containers.converge(IMAGE_ROOT, containerd, self.predict)
        if missing is None:
            return ["the container images of the system image (imported)"]
        found = [f"image {one.name} (imported)" for one in missing.to_import]
        found += [f"image {name} (pinned)" for name in missing.to_pin]
        self._show("container images", "", "".join(f"{one}\n" for one in found))
        return found

    def _kubelet(self, documents: Mapping[str, Document], joined: bool) -> None:
        """What all roles say of the kubelet, so that it is started again once."""
        told = {role: one["kubelet"] for role, one in documents.items() if one.get("kubelet")}
        if not told:
            return
        merged = {
            "kubelet": {
                "files": [file for one in told.values() for file in one.get("files") or []],
                "flags": {
                    k: v for one in told.values() for k, v in (one.get("flags") or {}).items()
                },
                "started": any(one.get("started") for one in told.values()),
            }
        }
        role = next(iter(told))
        self._section(role, "kubelet", lambda one: self._settings(one["kubelet"], joined), merged)

    def _settings(self, wanted: Document, joined: bool) -> list[str]:
        seconds = limits.SECTION_TIMEOUTS["kubelet"]
        watch = kubelet.Watch(
            self.run,
            name=self.cluster.node,
            api_servers=self.cluster.api_servers,
            api_name=self.cluster.api_name,
            seconds=seconds,
        )
        started = joined and wanted["started"]
        entries = kubelet_settings.entries(wanted["files"], wanted["flags"] if joined else {})
        self._changed_paths.update(kubelet_settings.paths(entries))
        settings = kubelet_settings.Settings(self._services(seconds), watch, joined)
        # Who is told to start it keeps its Node as well.
        again = kubelet.UNREGISTERED if started and not watch.see().registered else ""
        if started and not again:
            again = kubelet.silent(kubelet.unit_of(self.run), time.monotonic_ns() // 1000)
        want = kubelet_settings.wanted(entries, started)
        changes, report, reasons = settings.converge(entries, want, again)
        self.diffs += [*(change.diff() for change in changes), *report.diffs()]
        return [*(change.reason() for change in changes), *report.reasons(), *reasons]

    def _node(self, document: Document) -> list[str]:
        node, found = document["node"], []
        name, servers, certified = node["name"], self.cluster.api_servers, self.cluster.api_name
        with own_node.credentials(servers, certified) as api:
            labels, taints = node.get("labels") or {}, node.get("taints") or []
            found += own_node.keep(api, name, labels, taints, predict=self.predict)
        if found != [own_node.missing(name)]:
            found += self._pod_network(name, node.get("address") or "")
        self._show(f"Node {name}", "".join(f"{one}\n" for one in found), "")
        return found

    def _pod_network(self, name: str, address: str) -> list[str]:
        seconds = limits.SECTION_TIMEOUTS["node"]
        with client.as_kubelet(self.cluster.api_servers, self.cluster.api_name) as api:
            network = pod_network.PodNetwork(
                self.run, lambda: own_node.read(api, name), address, seconds
            )
            rules = packet_rules.of(self.run, api, seconds)
            return [*network.converge(self.predict), *rules.converge(self.predict)]

    def _services(self, seconds: float) -> systemctl.Services:
        return systemctl.Services(self.run, seconds, self.predict, frozenset(self._changed_paths))

    def _show(self, name: str, old: str, new: str) -> None:
        if old or new:
            self.diffs.append(
                {"before_header": name, "after_header": name, "before": old, "after": new}
            )
