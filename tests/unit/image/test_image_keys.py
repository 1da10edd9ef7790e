# SPDX-License-Identifier: Apache-2.0
"""Keys change exactly when what is made may change."""

from __future__ import annotations

from typing import Any

import pytest

from kubewright.image.catalogue import Catalogue, Release
from kubewright.image.keys import image_key, part_key
from kubewright.image.locked import Locked
from kubewright.image.recipes.packages import Pinned

RELEASE = Catalogue.load().release("1.37.2")
LOCKED = Locked(
    debian={"load-balancer": {"haproxy": Pinned(version="2.6", sha256="0" * 64)}},
    compiler={"gcc": "12.2.0"},
    packing={"zstd": "1.5.4"},
)
OTHER_HAPROXY = {"load-balancer": {"haproxy": Pinned(version="2.7", sha256="1" * 64)}}


def changed_parts(release: Release = RELEASE, locked: Locked = LOCKED) -> set[str]:
    """Parts whose key differs from the original's."""
    return {
        name
        for name in RELEASE.parts
        if part_key(release, name, locked, "amd64") != part_key(RELEASE, name, LOCKED, "amd64")
    }


def with_versions(**versions: str) -> Release:
    return RELEASE.model_copy(update={"versions": {**RELEASE.versions, **versions}})


def with_part(name: str, **fields: Any) -> Release:
    part = RELEASE.parts[name].model_copy(update=fields)
    return RELEASE.model_copy(update={"parts": {**RELEASE.parts, name: part}})


def test_same_inputs_same_key() -> None:
    again = Catalogue.load().release("1.37")
    assert changed_parts(again, LOCKED.model_copy(deep=True)) == set()
    assert image_key(again, "worker", LOCKED, "amd64") == image_key(
        RELEASE, "worker", LOCKED, "amd64"
    )


def test_a_version_changes_the_parts_made_of_it() -> None:
    assert changed_parts(with_versions(runc="v1.4.4")) == {"runc"}
    assert changed_parts(with_versions(kubernetes="v1.37.3")) == {"kubernetes", "pause"}
    assert changed_parts(with_versions(pause="3.11")) == {"pause"}


def test_toolchain_changes_all_programs() -> None:
    newer = RELEASE.toolchain.model_copy(update={"version": "1.26.7"})
    changed = changed_parts(RELEASE.model_copy(update={"toolchain": newer}))
    assert changed == {name for name, part in RELEASE.parts.items() if part.recipe == "go"}


def test_the_hosts_compiler_changes_what_links_c() -> None:
    locked = LOCKED.model_copy(update={"compiler": {"gcc": "14.2.0"}})
    assert changed_parts(locked=locked) == {"runc", "flannel", "pause"}


def test_a_debian_package_changes_its_tree() -> None:
    locked = LOCKED.model_copy(update={"debian": OTHER_HAPROXY})
    assert changed_parts(locked=locked) == {"load-balancer"}


def test_flags_and_tags_change_the_part() -> None:
    assert changed_parts(with_part("runc", ldflags="-s")) == {"runc"}
    assert changed_parts(with_part("runc", tags=["seccomp"])) == {"runc"}


def test_where_files_go_changes_the_image_not_the_part() -> None:
    release = with_part("etcd", install=[])
    assert changed_parts(release) == set()
    assert image_key(release, "control_plane", LOCKED, "amd64") != image_key(
        RELEASE, "control_plane", LOCKED, "amd64"
    )


def test_a_part_of_control_planes_leaves_workers_alone() -> None:
    release = with_part("etcd", ldflags="")
    assert image_key(release, "worker", LOCKED, "amd64") == image_key(
        RELEASE, "worker", LOCKED, "amd64"
    )


@pytest.mark.parametrize(
    "release",
    [
        RELEASE.model_copy(update={"revision": 2}),
        RELEASE.model_copy(update={"image_tags": {"etcd": "3.7.0-1"}}),
        with_part("load-balancer", files={}),
    ],
)
def test_what_changes_an_image(release: Release) -> None:
    assert image_key(release, "control_plane", LOCKED, "amd64") != image_key(
        RELEASE, "control_plane", LOCKED, "amd64"
    )


def test_role_arch_and_packer_change_an_image() -> None:
    packer = LOCKED.model_copy(update={"packing": {"zstd": "1.5.6"}})
    keys = {
        image_key(RELEASE, "worker", LOCKED, "amd64"),
        image_key(RELEASE, "control_plane", LOCKED, "amd64"),
        image_key(RELEASE, "worker", LOCKED, "arm64"),
        image_key(RELEASE, "worker", packer, "amd64"),
    }
    assert len(keys) == 4
