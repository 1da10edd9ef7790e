# SPDX-License-Identifier: Apache-2.0
"""Another system image on a node: kept where it runs, given up by the node itself where not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import broken_images
import kube as api
import pytest
from broken_images import Images
from cluster import Cluster, Ended
from kube import Kube
from machines import power_off, power_on
from node_images import activate, containers, decided, install, listed, runs
from waiting import until

from kubewright.image.paths import cache_dir

#: Seconds in which a node is back on the image that it had. It is promised to users.
BACK = 180.0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """A store of images of the tests' own, for the command too."""
    directory = tmp_path_factory.mktemp("cache")
    made = Images(cache_dir(), directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBEWRIGHT_CACHE_DIR", str(directory))
        yield made


def activate_by_apply(cluster: Cluster, digest: str, node: str) -> Ended:
    """Run a node from an image that the inventory means for it."""
    own = cluster.directory / "host_vars" / f"{node}.yml"
    own.parent.mkdir(exist_ok=True)
    own.write_text(f"system_volume_image_digest: {digest}\n")
    try:
        return cluster.apply()
    finally:
        own.unlink()


def words(ended: Ended) -> str:
    """What a command told people, without its line breaks."""
    return " ".join(ended.stderr.split())


@pytest.mark.parametrize("role", ["worker", "control_plane"])
@pytest.mark.parametrize(
    ("change", "reason", "by"),
    [
        (broken_images.exits, "containerd", activate),
        (broken_images.hangs, "kubelet", activate_by_apply),
        (broken_images.wrong_libc, "containerd", activate),
    ],
    ids=["exits", "hangs", "wrong-libc"],
)
def test_a_broken_image_is_given_up_by_the_node(
    cluster: Cluster,
    kube: Kube,
    images: Images,
    measured: Callable[[str, object], None],
    role: str,
    change: Callable[[Path], None],
    reason: str,
    by: Callable[[Cluster, str, str], Ended],
) -> None:
    node = cluster.workers[0] if role == "worker" else cluster.control_planes[-1]
    bad, before = images.make(role, change), containers(kube, node)
    install(cluster, bad, node)
    begun, cut = api.now(), time.monotonic()
    ended = by(cluster, bad, node)
    assert ended.status != 0, ended.stdout
    if change is broken_images.hangs:  # all else went well
        assert "rolled back from" in words(ended), ended.stderr
    until(
        "back", lambda: runs(node, images.of(role)["digest"]), limit=cut + BACK - time.monotonic()
    )
    measured(f"{node}: back after {change.__name__}", time.monotonic() - cut)
    left = cut + BACK - time.monotonic()
    until("Ready", api.all_ready(kube, frozenset(cluster.nodes), begun), limit=left)
    assert containers(kube, node) == before, "the pods went on"
    (told,) = [one for one in listed(cluster, node) if one["digest"] == bad]
    assert told["bad"] is True and told["active"] is False
    again = activate_by_apply(cluster, bad, node)
    assert again.status != 0 and "rolled back" in words(again) and reason in words(again)
    # Nothing on any node: the kubeconfig may name another control plane by now.
    assert cluster.apply().succeeded().document["host_tasks"]["changed"] == 0


def test_a_good_one_stays_also_while_the_api_is_away(
    cluster: Cluster, kube: Kube, images: Images, connect: Callable[[], Kube]
) -> None:
    node = cluster.workers[1]
    better, before = images.make("worker", broken_images.good), containers(kube, node)
    install(cluster, better, node)
    power_off(*cluster.control_planes)
    try:
        activate(cluster, better, node).succeeded()
        until("decided", lambda: decided(node), limit=BACK)
        assert runs(node, better)
    finally:
        on_again = api.now()
        power_on(*cluster.control_planes)
    until("whole", api.all_ready(kube, frozenset(cluster.nodes), on_again), limit=120)
    assert containers(kube, node) == before, "the pods went on"
    (told,) = [one for one in listed(cluster, node) if one["digest"] == better]
    assert (told["active"], told["bad"]) == (True, False)
    # The file means the other one: apply takes the node back there.
    assert cluster.apply().succeeded().document["changed"] is True
    until("decided", lambda: decided(node), limit=BACK)
    assert runs(node, images.of("worker")["digest"])
