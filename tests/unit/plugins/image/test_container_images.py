# SPDX-License-Identifier: Apache-2.0
"""Container images: what is missing is imported, pinned at once, and looked for afterwards."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubewright.cluster.plugins.module_utils._parts import parts
from making import RunModule, make

PROXY, PAUSE = "registry.k8s.io/kube-proxy:v1.37.2", "registry.k8s.io/pause:3.10.2"

# A ctr that keeps name, archive hash and pin of each image in a file.
CTR = (
    rf"#!{sys.executable} -SE"
    + r"""
import fcntl, json, pathlib, re, sys
here = pathlib.Path(__file__).parent
store = here / "store.json"
images = json.loads(store.read_text()) if store.exists() else {}
with (here / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[6:]) + "\n")
if (here / "down").exists():
    sys.exit("ctr: failed to dial")
def save(name, labels):
    with (here / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh = json.loads(store.read_text()) if store.exists() else {}
        whole = store.with_suffix(".new")
        whole.write_text(json.dumps({**fresh, name: {**fresh.get(name, {}), **labels}}))
        whole.rename(store)
verb, arguments = sys.argv[6], sys.argv[7:]
labels = dict(a[8:].split("=", 1) for a in arguments if a.startswith("--label="))
if verb == "ls":
    for query in arguments[1:]:
        name = re.match(r'name=="([^"]+)"', query)[1]
        wanted = dict(re.findall(r'labels\."([^"]+)"==(\w+)', query))
        if name in images and wanted.items() <= images[name].items():
            print(name)
elif verb == "import":
    name = pathlib.Path(arguments[-1]).read_text()
    if name == "broken":
        sys.exit("ctr: unrecognized image format")
    save(name, labels)
elif verb == "label":
    if arguments[0] not in images:
        sys.exit("ctr: image not found")
    save(arguments[0], dict(label.split("=") for label in arguments[1:]))
"""
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A mounted system image with two container images."""
    path = tmp_path / "image"
    (path / "bin").mkdir(parents=True)
    (path / "images").mkdir()
    (path / "bin" / "ctr").write_text(CTR)
    (path / "bin" / "ctr").chmod(0o755)
    for number, name in enumerate((PROXY, PAUSE)):
        (path / "images" / f"{number}.tar").write_text(name)
    manifest(path, "a" * 64)
    return path


def manifest(root: Path, digest: str) -> None:
    files = [
        {"path": f"images/{number}.tar", "sha256": digest, "size": 10 * (number + 1)}
        for number in range(2)
    ]
    names = [
        {"name": name, "archive": f"images/{number}.tar"}
        for number, name in enumerate((PROXY, PAUSE))
    ]
    (root / "manifest.json").write_text(json.dumps({"files": files, "images": names}))


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """containerd's socket."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        listener.listen()
        listener.listen()
        yield tmp_path / "s"


def images(run_module: RunModule, root: Path, address: Path, **more: Any) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts, "IMAGE_ROOT", root)
        patched.setattr(parts, "CONTAINERD", str(address))
        result = make(run_module, "container_images", True, **more)
    done = [one.removeprefix("image ").partition(" (") for one in result["done"]]
    for word in ("imported", "pinned"):
        result[word] = [name for name, _, did in done if did == f"{word})"]
    return result


def calls(root: Path) -> list[str]:
    path = root / "bin" / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line.split()[0] for line in lines]


def test_imported_once(run_module: RunModule, root: Path, address: Path) -> None:
    predicted = images(run_module, root, address, check=True)
    assert (predicted["changed"], predicted["imported"]) == (True, [PROXY, PAUSE])
    assert set(calls(root)) == {"ls"}
    result = images(run_module, root, address)
    assert (result["imported"], result["pinned"]) == ([PROXY, PAUSE], [])
    assert calls(root).count("import") == 2
    assert images(run_module, root, address)["changed"] is False
    assert calls(root) == ["ls"], "nothing to do costs one call"


def test_lost_pin_is_set_again(run_module: RunModule, root: Path, address: Path) -> None:
    images(run_module, root, address)
    store = json.loads((root / "bin" / "store.json").read_text())
    del store[PAUSE]["io.cri-containerd.pinned"]
    (root / "bin" / "store.json").write_text(json.dumps(store))
    calls(root)
    result = images(run_module, root, address)
    assert (result["imported"], result["pinned"]) == ([], [PAUSE])
    assert "import" not in calls(root)


def test_import_that_was_cut_is_done_again(
    run_module: RunModule, root: Path, address: Path
) -> None:
    cut = {PAUSE: {"io.cri-containerd.pinned": "pinned"}}  # imported, not yet known to be whole
    (root / "bin" / "store.json").write_text(json.dumps(cut))
    assert images(run_module, root, address)["imported"] == [PROXY, PAUSE]


def test_rebuilt_archive_is_imported_again(
    run_module: RunModule, root: Path, address: Path
) -> None:
    images(run_module, root, address)
    manifest(root, "b" * 64)
    assert images(run_module, root, address)["imported"] == [PROXY, PAUSE]


def test_archive_without_its_name_is_an_error(
    run_module: RunModule, root: Path, address: Path
) -> None:
    (root / "images" / "0.tar").write_text("other:1")
    result = images(run_module, root, address)
    assert "could not be imported" in result["msg"]
    assert PROXY in result["msg"]


def test_failed_import_is_shown_and_the_next_run_goes_on(
    run_module: RunModule, root: Path, address: Path
) -> None:
    (root / "images" / "0.tar").write_text("broken")
    assert "unrecognized image format" in images(run_module, root, address)["msg"]
    (root / "images" / "0.tar").write_text(PROXY)
    assert images(run_module, root, address)["imported"] == [PROXY]


def test_what_is_missing_is_named(run_module: RunModule, root: Path, address: Path) -> None:
    (root / "bin" / "down").touch()
    result = images(run_module, root, address.with_name("nothing"))
    assert "containerd does not listen" in result["msg"]
    (root / "manifest.json").unlink()
    assert "no system image is mounted" in images(run_module, root, address)["msg"]
    (root / "manifest.json").write_text('{"images": [{}], "files": []}')
    assert "Build the image again" in images(run_module, root, address)["msg"]


def test_prediction_before_anything_is_there(
    run_module: RunModule, root: Path, address: Path
) -> None:
    nothing = address.with_name("nothing")
    assert images(run_module, root, nothing, check=True)["imported"] == [PROXY, PAUSE]
    (root / "manifest.json").unlink()
    assert images(run_module, root, nothing, check=True)["changed"] is True


def test_a_containerd_that_was_killed_leaves_its_socket(
    run_module: RunModule, root: Path, address: Path
) -> None:
    images(run_module, root, address)
    (root / "bin" / "down").touch()
    address.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("s")
    assert address.is_socket()
    assert images(run_module, root, address, check=True)["imported"] == [PROXY, PAUSE]
    assert "containerd does not listen" in images(run_module, root, address)["msg"]
