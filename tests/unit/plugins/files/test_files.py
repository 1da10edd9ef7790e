# SPDX-License-Identifier: Apache-2.0
"""Files on a node: what is compared, what is written, what is refused, what is shown."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError
from ansible_collections.kubewright.cluster.plugins.module_utils._files import (
    blocks,
    differences,
    options,
)
from making import RunModule, make
from wanted_files import OWNER, SECRET, file

EveryKill = Callable[[Callable[[], object]], Iterator[int]]


def block(path: Path, marker: str, content: str) -> dict[str, Any]:
    return {"path": str(path), "state": "block", "marker": marker, "content": content}


def made(run_module: RunModule, files: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The result, and the paths that it was about."""
    result = make(run_module, "files", files, **more)
    paths = [one["before_header"] for one in result.get("diff", [])]
    return {**result, "paths": list(dict.fromkeys(paths))}


def rewritten(files: list[dict[str, Any]]) -> list[str]:
    """The paths that would get another time of change."""
    found = differences.find(options.parse(files, {}))
    return [str(change.desired.path) for change in found if change.rewrites]


def test_everything_in_one_call_and_then_nothing(run_module: RunModule, etc: Path) -> None:
    (etc / "old").write_text("x")
    (etc / "empty").mkdir()
    files = [
        file(etc / "sub" / "a.conf", "a\n", mode="0600"),
        {"path": str(etc / "b"), "content_b64": base64.b64encode(b"\0\xff").decode(), **OWNER},
        {"path": str(etc / "dir"), "state": "directory", "mode": "0700", **OWNER},
        {"path": str(etc / "link"), "state": "link", "src": "sub/a.conf"},
        {"path": str(etc / "old"), "state": "absent"},
        {"path": str(etc / "empty"), "state": "absent"},
        block(etc / "hosts", "one", "127.0.0.1 one"),
        block(etc / "hosts", "two", "127.0.0.1 two\n"),
    ]
    paths = list(dict.fromkeys(entry["path"] for entry in files))

    predicted = made(run_module, files, check=True)
    assert (predicted["changed"], predicted["paths"]) == (True, paths)
    assert not (etc / "sub").exists()

    result = made(run_module, files)
    assert (result["changed"], result["paths"]) == (True, paths)
    assert (etc / "sub" / "a.conf").read_text() == "a\n"
    assert (etc / "sub" / "a.conf").stat().st_mode & 0o7777 == 0o600
    assert (etc / "sub").stat().st_mode & 0o7777 == 0o755
    assert (etc / "b").read_bytes() == b"\0\xff"
    assert (etc / "b").stat().st_mode & 0o7777 == 0o644
    assert (etc / "dir").stat().st_mode & 0o7777 == 0o700
    assert (etc / "link").read_text() == "a\n"
    assert (etc / "hosts").read_text() == (
        "# BEGIN kubewright one\n127.0.0.1 one\n# END kubewright one\n"
        "# BEGIN kubewright two\n127.0.0.1 two\n# END kubewright two\n"
    )
    assert not (etc / "old").exists()
    assert not (etc / "empty").exists()

    again = made(run_module, files)
    assert (again["changed"], again["paths"], again["diff"]) == (False, [], [])


def test_in_an_exclusive_directory_only_what_is_listed_has_such_a_name(
    run_module: RunModule, etc: Path
) -> None:
    place = etc / "kubelet.d"
    files = [
        {"path": str(place), "state": "directory", "exclusive": "*.conf", **OWNER},
        file(place / "10-ours.conf", "a\n"),
    ]
    assert made(run_module, files)["paths"] == [entry["path"] for entry in files]
    assert not made(run_module, files)["changed"]

    (place / "sub.conf").mkdir()
    foreign = [place / "20-theirs.conf", place / "link.conf", place / "sub.conf" / "x.conf"]
    foreign[0].write_text("b\n")
    foreign[1].symlink_to(etc)
    foreign[2].write_text("c\n")
    (place / "README").write_text("d\n")
    for check in (True, False):
        result = made(run_module, files, check=check)
        assert result["paths"] == [str(path) for path in foreign]
        assert result["diff"][0]["before"] == "file\nb\n"
        assert [path.is_symlink() or path.exists() for path in foreign] == [check] * 3
    assert sorted(path.name for path in place.iterdir()) == ["10-ours.conf", "README", "sub.conf"]
    assert not made(run_module, files)["changed"]
    refused = [file(etc / "a", "a\n", exclusive="*")]
    with pytest.raises(KubewrightError, match="exclusive is only for state directory, not file"):
        options.parse(refused, {})


@pytest.mark.parametrize("damage", ["content", "mode", "link", "gone"])
def test_each_kind_of_drift_is_seen_and_mended(
    run_module: RunModule, etc: Path, damage: str
) -> None:
    path = etc / "a"
    made(run_module, [file(path, "a\n")])
    if damage == "content":  # same size, same time
        stamp = path.stat().st_mtime_ns
        path.write_text("b\n")
        os.utime(path, ns=(stamp, stamp))
    elif damage == "mode":
        path.chmod(0o666)
    else:
        path.unlink()
        if damage == "link":
            path.symlink_to("/dev/null")
    # What only gets its mode back is not written, and nothing has to read it again.
    assert rewritten([file(path, "a\n")]) == ([] if damage == "mode" else [str(path)])
    predicted = made(run_module, [file(path, "a\n")], check=True)
    result = made(run_module, [file(path, "a\n")])
    assert result["done"] == predicted["done"] != []
    assert result["paths"] == predicted["paths"] == [str(path)]
    assert path.read_text() == "a\n"
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o7777 == 0o644


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_owner_and_group(run_module: RunModule, etc: Path) -> None:
    files = [file(etc / "a", "a", owner="daemon", group="7")]
    made(run_module, files)
    status = (etc / "a").stat()
    assert (status.st_uid, status.st_gid) == (1, 7)
    os.chown(etc / "a", 0, 0)
    result = made(run_module, files)
    assert result["diff"][0]["before"] == "owner 0\ngroup 0\n"
    assert (etc / "a").stat().st_uid == 1


def test_block_leaves_the_rest_alone(run_module: RunModule, etc: Path) -> None:
    hosts = etc / "hosts"
    hosts.write_text("127.0.0.1 localhost")  # no newline at the end
    hosts.chmod(0o664)
    made(run_module, [block(hosts, "api", "10.0.0.1 api")])
    hosts.write_text(hosts.read_text() + "# mine\n")
    made(run_module, [block(hosts, "api", "10.0.0.2 api")])
    ours = "# BEGIN kubewright api\n10.0.0.2 api\n# END kubewright api\n"
    assert hosts.read_text() == f"127.0.0.1 localhost\n{ours}# mine\n"
    assert hosts.stat().st_mode & 0o7777 == 0o664
    made(run_module, [block(hosts, "api", "")])
    assert hosts.read_text() == "127.0.0.1 localhost\n# mine\n"
    assert made(run_module, [block(hosts, "api", "")])["changed"] is False


def test_block_follows_a_link(run_module: RunModule, etc: Path) -> None:
    (etc / "real").write_text("x\n")
    (etc / "hosts").symlink_to("real")
    made(run_module, [block(etc / "hosts", "api", "y")])
    assert (etc / "hosts").is_symlink()
    assert "y\n" in (etc / "real").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "# BEGIN kubewright m\nx\n",
        "# END kubewright m\n# BEGIN kubewright m\n",
        "# BEGIN kubewright m\n# END kubewright m\n# BEGIN kubewright m\n# END kubewright m\n",
    ],
)
def test_broken_markers_are_refused(text: str) -> None:
    with pytest.raises(KubewrightError, match=r"/etc/hosts: .* leave one pair, or none"):
        blocks.merge("/etc/hosts", text.encode(), "m", blocks.render("m", b"new"))


def test_secret_reaches_the_file_and_nothing_else(run_module: RunModule, etc: Path) -> None:
    key = etc / "ca.key"
    files = [{"path": str(key), "secret": True, "mode": "0600", **OWNER}]
    key.write_text("an older secret\n")
    result = made(run_module, files, secrets={str(key): SECRET})
    assert key.read_text() == SECRET
    answer = json.dumps(result)
    assert "verysecret" not in answer
    assert "older" not in answer
    assert result["diff"][0]["after"].endswith("(secret: the new content)\n")
    assert made(run_module, files, secrets={str(key): SECRET})["changed"] is False


def test_content_is_not_sent_back(run_module: RunModule, etc: Path) -> None:
    result = made(run_module, [file(etc / "a", "long content")], diff=False)
    assert "diff" not in result
    assert "long content" not in json.dumps(result)
    assert result["invocation"]["module_args"]["documents"] == ["role"]
    assert result["done"] == [f"{etc}/a is missing"]


@pytest.mark.parametrize(
    ("entry", "secrets", "why"),
    [
        ({"path": "a", "content": ""}, {}, "absolute"),
        ({"path": "/etc/../a", "content": ""}, {}, "without"),
        ({"path": "/a"}, {}, "exactly one of content"),
        ({"path": "/a", "content": "", "content_b64": ""}, {}, "exactly one of content"),
        ({"path": "/a", "content_b64": "!"}, {}, "not base64"),
        ({"path": "/a", "content": "", "mode": "rw"}, {}, "not octal"),
        ({"path": "/a", "content": "", "owner": "no-such-user"}, {}, "no user 'no-such-user'"),
        ({"path": "/a", "content": "", "group": "no-such-group"}, {}, "no group 'no-such-group'"),
        ({"path": "/a", "state": "link"}, {}, "src"),
        ({"path": "/a", "state": "directory", "content": ""}, {}, "content is for state file"),
        ({"path": "/a", "state": "block", "content": "x"}, {}, "marker"),
        ({"path": "/a", "state": "block", "marker": "m\n", "content": "x"}, {}, "one line"),
        ({"path": "/a", "secret": True}, {}, "secrets"),
        ({"path": "/a", "secret": True, "content": "x"}, {"/a": "x"}, "secrets"),
        ({"path": "/a", "content": "x"}, {"/a": "x"}, "secret: true"),
    ],
)
def test_contradictions_are_refused(
    entry: dict[str, Any], secrets: dict[str, str], why: str
) -> None:
    with pytest.raises(KubewrightError, match=why):
        options.parse([entry], secrets)


def test_a_path_is_listed_once(run_module: RunModule, etc: Path) -> None:
    for other in (file(etc / "a", "y"), block(etc / "a", "m", "y")):
        for pair in ([file(etc / "a", "x"), other], [other, file(etc / "a", "x")]):
            assert "listed twice" in made(run_module, pair)["msg"]


def test_nothing_is_written_when_one_entry_is_refused(run_module: RunModule, etc: Path) -> None:
    (etc / "full").mkdir()
    (etc / "full" / "x").write_text("mine")
    absent = {"path": str(etc / "full"), "state": "absent"}
    result = made(run_module, [file(etc / "a", "a"), absent])
    assert "not empty" in result["msg"]
    assert not (etc / "a").exists()
    with_content = [{"path": str(etc / "full" / "x"), "state": "absent"}, absent]
    assert made(run_module, files=with_content)["changed"] is True
    assert not (etc / "full").exists()


def test_directory_in_the_way_is_refused(run_module: RunModule, etc: Path) -> None:
    (etc / "a").mkdir()
    assert "is a directory" in made(run_module, [file(etc / "a", "x")])["msg"]
    (etc / "b").write_text("")
    result = made(run_module, [{"path": str(etc / "b"), "state": "directory"}])
    assert "is a file" in result["msg"]


def test_overtaken_run_writes_nothing(run_module: RunModule, etc: Path) -> None:
    assert made(run_module, [file(etc / "a", "new")], epoch=8)["changed"]
    result = made(run_module, [file(etc / "a", "old")], epoch=7)
    assert "epoch 8" in result["msg"]
    assert (etc / "a").read_text() == "new"


def test_killed_run_is_finished_by_the_next(etc: Path, every_kill: EveryKill) -> None:
    old = [file(etc / "a", "old a"), file(etc / "b", "old b"), block(etc / "hosts", "m", "old")]
    new = [file(etc / "a", "new a"), file(etc / "b", "new b"), block(etc / "hosts", "m", "new")]
    link = {"path": str(etc / "l"), "state": "link", "src": "a"}

    def converge(files: list[dict[str, Any]]) -> None:
        differences.apply(differences.find(options.parse(files, {})))

    converge(old)
    for _point in every_kill(lambda: converge([*new, link])):
        for name in ("a", "b"):
            assert (etc / name).read_text() in (f"old {name}", f"new {name}")
        assert (etc / "hosts").read_text().count("kubewright m") == 2
        converge([*new, link])
        assert differences.find(options.parse([*new, link], {})) == []
        assert sorted(path.name for path in etc.iterdir()) == ["a", "b", "hosts", "l"]
        converge([*old, {"path": str(etc / "l"), "state": "absent"}])
    assert (etc / "b").read_text() == "new b"


@pytest.mark.skipif(os.getuid() != 0, reason="needs a mount namespace")
def test_bind_mounted_file_for_real(etc: Path, collections_path: Path) -> None:
    """A container's /etc/hosts is a mount point: rename fails there, writing in place does not."""
    (etc / "source").write_text("127.0.0.1 localhost\n")
    (etc / "hosts").write_text("")
    program = f"""
import sys
sys.path.insert(0, {str(collections_path)!r})
import ansible_collections
ansible_collections.__path__ = [{str(collections_path / "ansible_collections")!r}]
from ansible_collections.kubewright.cluster.plugins.module_utils._files import differences, options
entry = {block(etc / "hosts", "m", "10.0.0.1 api")!r}
differences.apply(differences.find(options.parse([entry], {{}})))
"""
    script = f'mount --bind {etc}/source {etc}/hosts && exec {sys.executable} -c "$0"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, program], capture_output=True, text=True
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount namespace here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert "10.0.0.1 api\n" in (etc / "source").read_text()
    assert [path.name for path in etc.glob(".*")] == []
