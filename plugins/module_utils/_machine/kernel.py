# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Whether the running kernel can do what a node needs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

CONFIGURATION = ("etc", "run", "usr/local/lib", "usr/lib", "lib")
NOTHING = ("/bin/true", "/bin/false", "/usr/bin/true", "/usr/bin/false", "/sbin/nologin")


def missing_modules(names: Iterable[str], root: Path, release: str) -> dict[str, str]:
    """Those of *names* that are neither there nor can be loaded, with the reason in words.

    There: loaded, built in, or a file system that the kernel lists. In a container that has no
    modules of its own, those of the host count. *release*: of the running kernel.
    """
    there = _there(root)
    directory = next(
        (path for lib in ("lib", "usr/lib") if (path := root / lib / "modules" / release).is_dir()),
        None,
    )
    built_in = _listed(directory / "modules.builtin") if directory else set()
    loadable = _listed(directory / "modules.dep") if directory else set()
    refused = _refused(root)
    found = {}
    for name in map(_plain, names):
        if name in there or name in built_in or (root / "sys/module" / name).is_dir():
            continue
        if directory is None:
            found[name] = f"is not loaded, and /lib/modules/{release} is missing"
        elif name in refused:
            found[name] = f"is disabled in {refused[name]}"
        elif name not in loadable:
            found[name] = f"is not part of this kernel ({release})"
    return found


def _there(root: Path) -> set[str]:
    modules, systems = root / "proc/modules", root / "proc/filesystems"
    loaded = modules.read_text().splitlines() if modules.exists() else []
    known = systems.read_text().splitlines() if systems.exists() else []
    return {line.split()[0] for line in loaded if line} | {
        line.split()[-1] for line in known if line
    }


def _listed(file: Path) -> set[str]:
    """Names in modules.builtin or modules.dep: a path a line, before a colon if there is one."""
    if not file.exists():
        return set()
    paths = (line.partition(":")[0] for line in file.read_text().splitlines())
    return {_plain(Path(path).name.partition(".")[0]) for path in paths}


def _refused(root: Path) -> dict[str, str]:
    """Modules that modprobe.d(5) keeps from being loaded, and the file that says so."""
    found = {}
    for directory in CONFIGURATION:
        for file in sorted((root / directory / "modprobe.d").glob("*.conf")):
            for line in file.read_text(errors="replace").splitlines():
                words = line.split()
                switched_off = words[:1] == ["install"] and words[2:3] and words[2] in NOTHING
                if len(words) > 1 and (switched_off or words[0] == "blacklist"):
                    found[_plain(words[1])] = f"/{file.relative_to(root)}"
    return found


def _plain(name: str) -> str:
    return name.replace("-", "_")
