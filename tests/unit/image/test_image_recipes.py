# SPDX-License-Identifier: Apache-2.0
"""The recipes' decisions: go.mod, closures, what a program needs."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubewright.image import prerequisites
from kubewright.image.catalogue import Catalogue
from kubewright.image.commands import Commands
from kubewright.image.errors import ImageError
from kubewright.image.recipes import elf, packages, toolchain
from kubewright.image.recipes.debian import Item, call, choose, resolve
from kubewright.image.recipes.go import go_mod, program_name


def test_go_mod_replaces_staging_modules_by_published_ones() -> None:
    own = {
        "Go": "1.26.0",
        "Godebug": [{"Key": "default", "Value": "go1.26"}],
        "Replace": [
            {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
            {"Old": {"Path": "a.b/c"}, "New": {"Path": "a.b/d", "Version": "v1.0.0"}},
        ],
    }
    assert go_mod("kubernetes", {"k8s.io/kubernetes": "v1.37.2"}, own, staging=True) == (
        "module kubewright.local/kubernetes\n\ngo 1.26.0\n\n"
        "godebug default=go1.26\n"
        "require k8s.io/kubernetes v1.37.2\n"
        "replace k8s.io/api => k8s.io/api v0.37.2\n"
    )


def test_go_mod_of_several_modules() -> None:
    text = go_mod(
        "etcd", {"a.b/c/v3": "v3.7.0", "a.b/d/v3": "v3.7.0"}, {"Go": "1.26"}, staging=False
    )
    assert text.count("\nrequire ") == 2
    assert "replace" not in text


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
        ("go.etcd.io/etcd/server/v3", "server"),
        ("github.com/coredns/coredns", "coredns"),
        ("github.com/containerd/containerd/v2/cmd/ctr", "ctr"),
    ],
)
def test_program_name(package: str, name: str) -> None:
    assert program_name(package) == name


def test_go_environment_is_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GOFLAGS", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOSUMDB", "GONOSUMCHECK"):
        monkeypatch.setenv(name, "off")
    monkeypatch.setenv("GOPROXY", "https://proxy.example.com")
    chain = Catalogue.load().release("1.37").toolchain
    env = toolchain.environment(tmp_path, chain, "amd64", cgo=False)
    assert env["GOSUMDB"] == "sum.golang.org"
    assert env["GOPROXY"] == "https://proxy.example.com"
    assert env["GOTOOLCHAIN"] == "local"
    assert env["GOENV"] == "off"
    assert "insecure" not in env["GOFLAGS"]
    assert not {"GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GONOSUMCHECK"} & env.keys()
    assert env["PATH"].startswith(str(tmp_path / "go/toolchain"))


def test_elf_of_this_python() -> None:
    found = elf.needs(Path(sys.executable).resolve().read_bytes())
    assert found is not None
    assert found.interpreter.startswith("/lib")
    assert "libc.so.6" in found.libraries


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(100)])
def test_elf_of_something_else(data: bytes) -> None:
    assert elf.needs(data) is None


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("./lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("/lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
        ("./usr/sbin/nft", "usr/sbin/nft"),
        ("./sbin", "sbin"),
        ("./.hidden/file", ".hidden/file"),
        ("./library/x", "library/x"),
    ],
)
def test_merged_usr(path: str, seen: str) -> None:
    assert packages.merged(path) == seen


@pytest.mark.parametrize(
    ("path", "target", "seen"),
    [
        ("usr/lib64/ld.so", "/lib/x86_64-linux-gnu/ld.so", "usr/lib/x86_64-linux-gnu/ld.so"),
        ("usr/lib/a.so.1", "a.so.1.2", "usr/lib/a.so.1.2"),
        ("usr/sbin/ip", "../../bin/ip", "usr/bin/ip"),
    ],
)
def test_links_inside_the_tree(path: str, target: str, seen: str) -> None:
    assert resolve(path, target) == seen


def test_dependencies_with_alternatives_versions_and_architectures() -> None:
    stanza = packages.parse_stanza(
        "Package: x\nDescription: one\n two\n"
        "Pre-Depends: dpkg (>= 1.17)\nDepends: libc6 (>= 2.34), a | b:any, c [amd64]\n"
    )
    assert stanza["Description"] == "one\ntwo"
    assert packages.dependencies(stanza) == [["dpkg"], ["libc6"], ["a", "b"], ["c"]]


def test_closure_takes_the_first_alternative_that_exists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    depends = {
        "haproxy": "libc6 (>= 2.34), virtual | libssl3, adduser",
        "libc6": "libgcc-s1",
        "libssl3": "libc6",
        "libgcc-s1": "libc6",  # a circle, as in Debian
        "adduser": "perl",
    }
    stanzas = {
        name: {"Package": name, "Version": "1", "SHA256": "0" * 64, "Depends": text}
        for name, text in depends.items()
    }
    monkeypatch.setattr(
        packages.Archive,
        "_show",
        lambda _, names: {name: stanzas[name] for name in names if name in stanzas},
    )
    archive = packages.Archive(tmp_path, "amd64", Commands())
    assert list(archive.closure(["haproxy"])) == ["haproxy", "libc6", "libgcc-s1", "libssl3"]
    with pytest.raises(ImageError, match="package keepalived"):
        archive.closure(["keepalived"])


def test_package_with_other_contents_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def download(_: object, argv: list[str], *, cwd: Path, **__: object) -> None:
        assert argv[-1] == "x=1"
        (cwd / "x_1_amd64.deb").write_bytes(b"something else")

    monkeypatch.setattr(Commands, "run", download)
    archive = packages.Archive(tmp_path, "amd64", Commands())
    with pytest.raises(ImageError, match="x 1 differs from what its package list"):
        archive.fetch({"x": packages.Pinned(version="1", sha256="0" * 64)})


def test_choose_takes_libraries_loader_and_links(tmp_path: Path) -> None:
    python = Path(sys.executable).resolve().read_bytes()
    needed = elf.needs(python)
    assert needed is not None
    loader = packages.merged(needed.interpreter)
    available = {f"usr/lib/{name}.1": Item("p", data=b"") for name in needed.libraries}
    available |= {f"usr/lib/{name}": Item("p", target=f"{name}.1") for name in needed.libraries}
    available |= {"usr/bin/python": Item("p", data=python), loader: Item("p", data=b"")}
    available["usr/share/doc"] = Item("p", data=b"no")
    assert choose(available, ["usr/bin/py*"]).keys() == available.keys() - {"usr/share/doc"}
    del available[f"usr/lib/{needed.libraries[0]}"]
    with pytest.raises(ImageError, match=needed.libraries[0]):
        choose(available, ["usr/bin/python"])


def test_a_program_of_a_tree_runs_from_anywhere_under_any_name(tmp_path: Path) -> None:
    """This Python's own shell, with the loader and the libraries that are in the tree."""
    shell = Path(shutil.which("dash") or "/bin/sh").resolve()
    needed = elf.needs(shell.read_bytes())
    assert needed is not None and needed.interpreter
    available = {packages.merged(str(shell)): Item("shell", 0o755, shell.read_bytes())}
    loader = Path(needed.interpreter)
    target = str(loader.resolve()) if loader.is_symlink() else None
    real = loader.resolve()
    available[packages.merged(str(loader))] = Item("libc", 0o755, loader.read_bytes(), target)
    available[packages.merged(str(real))] = Item("libc", 0o755, real.read_bytes())
    for name in needed.libraries:
        library = real.parent / name
        available[packages.merged(str(library))] = Item("libc", 0o644, library.read_bytes())
    chosen = choose(available, [packages.merged(str(shell))])
    for inside, item in chosen.items():
        path = tmp_path / "tree" / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        if item.target is None:
            path.write_bytes(item.data)
            path.chmod(item.mode)
    script = tmp_path / "tree/run/any"
    script.parent.mkdir()
    script.write_text(call(chosen, packages.merged(str(shell))))
    script.chmod(0o755)
    command = [str(script), "-c", "echo $0; cat /proc/$$/maps"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.splitlines()[0] == "any"
    assert f"{real} " not in said and str(tmp_path / "tree") in said


def test_a_program_without_a_loader_is_refused() -> None:
    with pytest.raises(ImageError, match="no loader"):
        call({"usr/bin/static": Item("x", 0o755, b"#!/bin/sh")}, "usr/bin/static")


def test_choose_refuses_a_pattern_without_a_match() -> None:
    with pytest.raises(ImageError, match="usr/sbin/nft"):
        choose({}, ["usr/sbin/nft"])


def test_missing_programs_are_all_named_with_their_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ImageError) as raised:
        prerequisites.check(tmp_path, compiling=False, linking_c=True, debian=True)
    assert raised.value.remedy.endswith("recommends apt dpkg gcc squashfs-tools zstd")


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(
        prerequisites,
        "output_of",
        lambda words: "libseccomp.a" if "libseccomp" in words[1] else "/usr/lib/libc.a",
    )
    with pytest.raises(ImageError, match="libseccomp-dev"):
        prerequisites.check(tmp_path, compiling=False, linking_c=True, debian=False)


def test_too_little_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    usage = shutil._ntuple_diskusage(10**11, 10**11, 10**9)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ImageError, match=r"needs 12 GB .* 1\.0 are free"):
        prerequisites.check(tmp_path / "not/yet", compiling=True, linking_c=False, debian=False)


def test_failed_command_shows_its_last_lines_and_the_log(tmp_path: Path) -> None:
    log = tmp_path / "logs/x.log"
    with pytest.raises(ImageError) as raised:
        Commands().run(["sh", "-c", "echo the reason; exit 3"], what="compiling x", log=log)
    assert raised.value.message == "Compiling x failed (status 3):\nthe reason\n"
    assert str(log) in raised.value.remedy


def test_unreachable_server_is_told_apart(tmp_path: Path) -> None:
    script = "echo 'dial tcp: lookup proxy.golang.org: no such host'; exit 1"
    with pytest.raises(ImageError) as raised:
        Commands().run(["sh", "-c", script], what="fetching", log=tmp_path / "x.log")
    assert "GOPROXY" in raised.value.remedy


def test_missing_program(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="the program no-such-program was not found"):
        Commands().run(["no-such-program"], what="packing", log=tmp_path / "x.log")


def test_ctrl_c_ends_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds, pins and mirrors rely on it: programs are of another group than the terminal's."""
    wait = subprocess.Popen.wait
    begun: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes], *_: Any) -> int:
        begun.append(process)
        monkeypatch.setattr(subprocess.Popen, "wait", wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Commands().run(["sleep", "600"], what="x", log=tmp_path / "log")
    assert [process.returncode for process in begun] == [-signal.SIGKILL]


def test_stop_ends_the_whole_group(tmp_path: Path) -> None:
    commands = Commands()
    pipe = tmp_path / "pipe"
    subprocess.run(["mkfifo", pipe], check=True)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        # The shell's child holds the pipe open; its end is seen when it is killed with the shell.
        running = pool.submit(
            commands.run,
            ["sh", "-c", f"cat /dev/zero >{pipe} & wait"],
            what="x",
            log=tmp_path / "log",
        )
        with pipe.open("rb") as reader:
            assert reader.read(1)
            commands.stop()
            reader.read()
        with pytest.raises(ImageError, match="Stopped while x"):
            running.result()
    with pytest.raises(ImageError, match="Stopped before y"):
        commands.run(["true"], what="y", log=tmp_path / "log")
