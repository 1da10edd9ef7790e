# SPDX-License-Identifier: Apache-2.0
"""What lies on a node's disks against what roles desire: files, the volume, the system image."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands
from ansible_collections.kubewright.cluster.plugins.module_utils._drift import drift
from ansible_collections.kubewright.cluster.plugins.module_utils._files import differences, options
from ansible_collections.kubewright.cluster.plugins.module_utils._image import images
from ansible_collections.kubewright.cluster.plugins.module_utils._kube import memberships
from ansible_collections.kubewright.cluster.plugins.module_utils._machine import facts
from ansible_collections.kubewright.cluster.plugins.module_utils._onnode import verify
from ansible_collections.kubewright.cluster.plugins.module_utils._volume import ext4, plan
from loops import mounted
from wanted_files import OWNER, SECRET, file

SIZE = 32_000_000
DIGEST, OTHER = "a" * 64, "b" * 64


def compare(**documents: dict[str, Any]) -> drift.Findings:
    """The documents, by role, against this machine."""
    run = commands.SystemRunner()
    return drift.Comparison(run, memberships.Membership("none")).compare(documents)


def reasons(document: dict[str, Any]) -> list[str]:
    return compare(role=document).drift.get("role", [])


@pytest.fixture
def document(etc: Path) -> dict[str, Any]:
    """One entry of each kind, written by what writes them on nodes."""
    files = [
        file(etc / "a", "one\ntwo\n"),
        {"path": str(etc / "key"), "secret": True, "mode": "0600", **OWNER},
        {"path": str(etc / "dir"), "state": "directory", "mode": "0700", **OWNER},
        {"path": str(etc / "link"), "state": "link", "src": "a"},
        {"path": str(etc / "hosts"), "state": "block", "marker": "api", "content": "::1 api"},
        {"path": str(etc / "old"), "state": "absent"},
    ]
    (etc / "hosts").write_text("::1 localhost\n")
    differences.apply(differences.find(options.parse(files, {str(etc / "key"): SECRET})))
    return {"files": files, "digests": {str(etc / "key"): digest(SECRET)}}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_what_is_as_desired_is_not_in_the_answer(document: dict[str, Any]) -> None:
    assert compare(one=document, two={}, three={"files": []}) == drift.Findings()


def same_stamp(path: Path, content: str) -> None:
    """Write as many bytes and put the time back."""
    stamp = path.stat().st_mtime_ns
    assert len(content) == path.stat().st_size
    path.write_text(content)
    os.utime(path, ns=(stamp, stamp))


def within(path: Path, old: str, new: str) -> None:
    """Change a line of ours in a file of others."""
    text = path.read_text()
    assert f"::1 {old}" in text
    path.write_text(text.replace(f"::1 {old}", f"::1 {new}"))


def replaced(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda etc: same_stamp(etc / "a", "one\nTWO\n"), "a has other content"),
        (lambda etc: (etc / "a").chmod(0o666), "a is mode 0666 instead of mode 0644"),
        (lambda etc: (etc / "a").unlink(), "a is missing"),
        (lambda etc: replaced(etc / "a", "/dev/null"), "a is link to /dev/null instead of file"),
        (lambda etc: (etc / "dir").rmdir(), "dir is missing"),
        (lambda etc: (etc / "dir").chmod(0o755), "dir is mode 0755 instead of mode 0700"),
        (lambda etc: replaced(etc / "link", "b"), "link is link to b instead of link to a"),
        (lambda etc: (etc / "link").unlink(), "link is missing"),
        (lambda etc: (etc / "hosts").write_text("::1 x\n"), "hosts lacks the block api"),
        (lambda etc: within(etc / "hosts", "api", "x"), "hosts has another block api"),
        (lambda etc: (etc / "hosts").unlink(), "hosts is missing"),
        (lambda etc: (etc / "old").write_text("x"), "old should not be there"),
        (lambda etc: (etc / "key").chmod(0o644), "key is mode 0644 instead of mode 0600"),
        (lambda etc: (etc / "key").unlink(), "key is missing"),
    ],
)
def test_each_damage_is_one_reason_and_one_diff(
    document: dict[str, Any], etc: Path, damage: Callable[[Path], object], expected: str
) -> None:
    damage(etc)
    found = compare(role=document)
    assert found.drift == {"role": [f"{etc}/{expected}"]}
    assert [one["before_header"] for one in found.diffs] == [f"{etc}/{expected.split()[0]}"]
    assert compare(role=document) == found, "looking changes nothing"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_owner_and_group(document: dict[str, Any], etc: Path) -> None:
    os.chown(etc / "a", 1, 7)
    os.chown(etc / "dir", 0, 7)
    assert reasons(document) == [
        f"{etc}/a is owner 1, group 7 instead of owner 0, group 0",
        f"{etc}/dir is group 7 instead of group 0",
    ]


def test_what_others_wrote_beside_a_block_is_theirs(document: dict[str, Any], etc: Path) -> None:
    with (etc / "hosts").open("a") as hosts:
        hosts.write("::1 mine\n")
    (etc / "hosts").chmod(0o600)
    (etc / "dir" / "more").write_text("x")
    assert reasons(document) == []


def test_two_blocks_of_a_file_that_is_missing_are_one_reason(etc: Path) -> None:
    block = {"path": str(etc / "hosts"), "state": "block", "content": "x"}
    files = [{**block, "marker": "one"}, {**block, "marker": "two"}]
    assert reasons({"files": files}) == [f"{etc}/hosts is missing"]


def test_a_diff_shows_both_texts(document: dict[str, Any], etc: Path) -> None:
    (etc / "a").write_text("one\nthree\n")
    (diff,) = compare(role=document).diffs
    assert (diff["before"], diff["after"]) == ("one\nthree\n", "one\ntwo\n")


@pytest.mark.parametrize("kind", ["content", "link", "missing"])
def test_a_secret_that_differs_is_never_shown(
    document: dict[str, Any], etc: Path, kind: str
) -> None:
    document["digests"][str(etc / "key")] = digest("another verysecret")
    if kind != "content":
        (etc / "key").rename(etc / "elsewhere")
    if kind == "link":
        (etc / "key").symlink_to("elsewhere")
    found = compare(role=document)
    (reason,) = found.drift["role"]
    assert reason.startswith(f"{etc}/key ")
    assert "verysecret" not in str(found)
    assert found.diffs[0]["after"].endswith("(secret: the new content)\n")
    assert ("(secret: the old content)" in found.diffs[0]["before"]) == (kind == "content")


def test_what_a_person_has_to_mend_hides_nothing_else(
    document: dict[str, Any], etc: Path, tmp_path: Path
) -> None:
    (etc / "dir").rmdir()
    (etc / "dir").write_text("")
    (etc / "a").unlink()
    document["volume"] = volume(tmp_path / "volume")
    assert reasons(document) == [
        f"{etc}/a is missing",
        f"{etc}/dir should be a directory but is a file; move it.",
        f"{tmp_path}/volume is missing",
    ]
    document["files"][0]["owner"] = "no-such-user"
    told = reasons(document)
    assert "no user 'no-such-user'" in told[0]
    assert told[1:] == [f"{tmp_path}/volume is missing"]


def test_roles_in_their_order_and_only_those_that_drifted(etc: Path) -> None:
    one, right, other = ({"files": [file(etc / name, "")]} for name in "xyz")
    (etc / "y").touch()
    assert list(compare(b=one, good=right, a=other).drift) == ["b", "a"]


def volume(path: Path, **more: Any) -> dict[str, Any]:
    own = {"path": str(path), "type": "local", "mount_point": str(path.parent / "system")}
    return {**own, "size_bytes": SIZE, "sparse": True, "label": "kubewright", **more}


@pytest.mark.skipif(
    not shutil.which("mkfs.ext4", path=commands.ADMIN_PATH), reason="needs e2fsprogs"
)
def test_the_volume(tmp_path: Path) -> None:
    path = tmp_path / "volume"
    run = commands.SystemRunner()
    assert reasons({"volume": volume(path)}) == [f"{path} is missing"]
    ext4.apply(plan.parse(volume(path)), ["create"], run)
    (told,) = reasons({"volume": volume(path)})
    assert told.startswith(f"{tmp_path}/system is not mounted; apply creates")
    with mounted(path, tmp_path / "system"):
        assert reasons({"volume": volume(path)}) == []
        assert reasons({"volume": volume(path, size_bytes=2 * SIZE)}) == [
            f"{path} is smaller than {2 * SIZE} bytes"
        ]
        assert reasons({"volume": volume(path, sparse=False)}) == [
            f"{path} has space that is not allocated"
        ]
    before = path.stat()
    (told,) = reasons({"volume": volume(path, label="other")})
    assert "contains an ext4 file system labeled 'kubewright', not 'other'" in told
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with mounted(path, tmp_path / "system", "loop,ro"):
        (told,) = reasons({"volume": volume(path)})
    assert "is read-only, because of disk errors. Drain this node and reboot" in told
    (told,) = reasons({"volume": volume(tmp_path / "none", type="block")})
    assert f"The device {tmp_path}/none of the system volume is missing. Attach it" in told


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A volume that counts as mounted, and `DIGEST` that is active on it and mounted."""
    path = tmp_path / "system"
    store = images.Store(path)
    store.images.mkdir(parents=True)
    store.image(DIGEST).touch()
    store.activate(DIGEST)
    store.acquit(DIGEST)
    monkeypatch.setattr(os.path, "ismount", lambda place: Path(place) == path)
    monkeypatch.setattr(facts, "loop_file", lambda _place: f"{DIGEST}.squashfs")
    return path


def image(volume: Path, wanted: str = DIGEST) -> list[str]:
    return reasons({"image": {"digest": wanted, "volume": str(volume)}})


def test_the_image_that_is_active_and_mounted(system: Path) -> None:
    assert image(system) == []


def test_the_image_is_damaged(system: Path) -> None:
    verdict = verify.judged(DIGEST, OTHER)
    verify.write_verdict(verdict_of(system), verdict)
    (told,) = image(system)
    assert told.startswith(
        f"system image aaaaaaaaaaaa is damaged on disk, as the node found at {verdict.at} "
        f"({OTHER}); it will be installed again"
    )
    verify.write_verdict(verdict_of(system), verify.judged(OTHER, DIGEST))
    assert image(system) == [], "it was another one"


def test_nobody_has_verified_the_image(system: Path) -> None:
    document = {"image": {"digest": DIGEST, "volume": str(system)}}
    assert compare(role=document).unknown == []
    old = dataclasses.replace(verify.judged(DIGEST, DIGEST), at="2026-01-02T03:04:05+00:00")
    verify.write_verdict(verdict_of(system), old)
    (unknown,) = compare(role=document).unknown
    assert unknown.endswith(
        "last verified at 2026-01-02T03:04:05+00:00. "
        "Verify it on the node: `systemctl start kubewright-image-verify`"
    )
    verdict_of(system).unlink()
    found = compare(role=document)
    assert "last verified never" in found.unknown[0]
    assert found.drift == {}


def test_an_image_that_becomes_active_while_another_is_verified_is_verified_too(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, hashed = images.Store(system), []
    store.image(OTHER).touch()

    def switched(path: Path) -> str:
        hashed.append(path.stem)
        if len(hashed) == 1:
            store.activate(OTHER)
        return path.stem

    monkeypatch.setattr(verify, "digest_of", switched)
    verdict = verify.verify(system, verdict_of(system))
    assert verdict is not None and (verdict.image, hashed) == (OTHER, [DIGEST, OTHER])
    assert store.verdict(OTHER) == verdict


def verdict_of(system: Path) -> Path:
    return system.parent / verify.VERDICT


def test_another_image_is_active_or_none(system: Path) -> None:
    assert image(system, OTHER) == ["system image bbbbbbbbbbbb: aaaaaaaaaaaa is active"]
    (system / "active").unlink()
    assert image(system) == ["system image aaaaaaaaaaaa: none is active"]
    assert image(system, "") == ["system image that is not built yet: none is active"]


def test_a_volume_that_is_not_mounted_has_no_image(system: Path, tmp_path: Path) -> None:
    system.rename(tmp_path / "elsewhere")
    assert image(tmp_path / "elsewhere") == ["system image aaaaaaaaaaaa: none is active"]


@pytest.mark.parametrize(
    ("mounted", "words"), [(None, "nothing"), (f"{OTHER}.squashfs", f"{OTHER}.squashfs")]
)
def test_the_active_image_has_to_be_mounted(
    system: Path, monkeypatch: pytest.MonkeyPatch, mounted: str | None, words: str
) -> None:
    monkeypatch.setattr(facts, "loop_file", lambda _place: mounted)
    assert image(system) == [f"/opt/kubewright: {words} is mounted instead of aaaaaaaaaaaa"]
