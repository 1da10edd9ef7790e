# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Rules of Kubernetes and its network plugins, found and taken out.

Tables of their own go whole. In the tables that iptables shares between all its users, their
chains go, and the rules that jump there; what an iptables that was called for them made besides
(a table, an empty chain of the kernel's) goes where it is on record that it was not there before.
Everything else stays as it is, rule by rule: only those handles are named.

Both flavours of iptables are looked at. The nft one keeps its tables in nftables, the legacy one
in the kernel's own, of which /proc/net/ip_tables_names lists those in use.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kubewright.cluster.plugins.module_utils._base import commands, owned
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import KubewrightError

LIST = ("nft", "--json", "list", "ruleset")
# What iptables-nft makes when it is called: tables by family, each with chains of the kernel's.
SHARED_FAMILIES = ("ip", "ip6")
SHARED_TABLES = ("filter", "mangle", "nat", "raw", "security")
LEGACY = {"ip": "iptables-legacy", "ip6": "ip6tables-legacy"}


@dataclass(frozen=True)
class Removal:
    """What goes, in words, and the input of ``nft --file -`` or ``iptables-restore`` for it."""

    words: tuple[str, ...] = ()
    script: str = ""


def ruleset(run: commands.Runner) -> list[Mapping[str, Any]]:
    """All of nftables: a list of mappings of one key, libnftables-json(5)."""
    result = commands.check(run(list(LIST)), "Listing nftables failed")
    items = json.loads(result.stdout)["nftables"] if result.stdout.strip() else []
    return [item for item in items if "metainfo" not in item]


def present(run: commands.Runner, proc: Path) -> list[str] | None:
    """Names of all tables and chains; None where nftables can't be asked."""
    names = []
    try:
        for item in ruleset(run):
            for kind, value in item.items():
                if kind in ("table", "chain"):
                    names.append(_name(kind, value))
        for family in LEGACY:
            names += [
                f"legacy {family} {table} {chain}"
                for table, chain in _legacy_chains(legacy_rules(run, proc, family))
            ]
    except (KubewrightError, ValueError, KeyError):
        return None
    return sorted(names)


def _name(kind: str, value: Mapping[str, Any]) -> str:
    words = [value["family"], *([value["table"]] if kind == "chain" else []), value["name"]]
    return " ".join(words)


def nft_removal(items: Sequence[Mapping[str, Any]], before: Iterable[str] | None) -> Removal:
    """What of the ruleset *items* goes; *before*: what `present` said at first, None if unknown.

    Pure. The script is one transaction: all of it happens, or nothing.
    """
    known = None if before is None else set(before)
    words: list[str] = []
    lines: list[str] = []
    tables = [item["table"] for item in items if "table" in item]
    for table in tables:
        name = f"{table['family']} {table['name']}"
        if (table["family"], table["name"]) in owned.TABLES and name not in (known or ()):
            words.append(f"nftables: table {name}")
            lines.append(f"delete table {name}")
        elif table["family"] in SHARED_FAMILIES and table["name"] in SHARED_TABLES:
            found = _shared(items, table["family"], table["name"], known)
            words += found.words
            lines += found.script.splitlines()
    return Removal(tuple(words), "".join(f"{line}\n" for line in lines))


def _shared(
    items: Sequence[Mapping[str, Any]], family: str, table: str, known: set[str] | None
) -> Removal:
    place = f"{family} {table}"

    def inside(kind: str) -> list[Mapping[str, Any]]:
        return [
            item[kind]
            for item in items
            if kind in item and (item[kind]["family"], item[kind]["table"]) == (family, table)
        ]

    chains, rules = inside("chain"), inside("rule")
    ours = [
        chain["name"]
        for chain in chains
        if owned.CHAIN.fullmatch(chain["name"])
        and "hook" not in chain
        and f"{place} {chain['name']}" not in (known or ())
    ]
    jumps = [rule for rule in rules if rule["chain"] not in ours and _target(rule) in ours]
    words = [
        f"nftables: rule in {place} {rule['chain']} that jumps to {_target(rule)}" for rule in jumps
    ]
    words += [f"nftables: chain {place} {name}" for name in ours]
    lines = [f"delete rule {place} {rule['chain']} handle {rule['handle']}" for rule in jumps]
    # Emptied first: they jump to one another.
    lines += [f"flush chain {place} {name}" for name in ours]
    lines += [f"delete chain {place} {name}" for name in ours]
    if known is None:
        return Removal(tuple(words), "\n".join(lines))
    left = {rule["chain"] for rule in rules if rule not in jumps}
    made = [
        chain["name"]
        for chain in chains
        if chain["name"] not in ours
        and chain["name"] not in left
        and chain.get("policy", "accept") == "accept"
        and "hook" in chain
        and f"{place} {chain['name']}" not in known
    ]
    others = [*inside("set"), *inside("map"), *inside("flowtable"), *inside("element")]
    if place not in known and len(made) + len(ours) == len(chains) and not others:
        return Removal((f"nftables: table {place}",), f"delete table {place}")
    words += [f"nftables: chain {place} {name}" for name in made]
    lines += [f"delete chain {place} {name}" for name in made]
    return Removal(tuple(words), "\n".join(lines))


def _target(rule: Mapping[str, Any]) -> str | None:
    for statement in rule.get("expr", []):
        for verdict in ("jump", "goto"):
            if isinstance(statement, dict) and isinstance(statement.get(verdict), dict):
                return str(statement[verdict].get("target"))
    return None


def legacy_rules(run: commands.Runner, proc: Path, family: str) -> str:
    """What ``iptables-legacy-save`` prints; empty where the legacy flavour is not in use."""
    names = proc / "net" / ("ip_tables_names" if family == "ip" else "ip6_tables_names")
    with contextlib.suppress(OSError):
        if names.read_text("ascii").split():
            command = f"{LEGACY[family]}-save"
            return commands.check(run([command]), f"{command} failed").stdout
    return ""


def legacy_removal(text: str, family: str, before: Iterable[str] | None) -> Removal:
    """What of an ``iptables-save`` goes; the script is for ``iptables-restore --noflush``. Pure."""
    known = set(before or ())
    ours = [
        (table, chain)
        for table, chain in _legacy_chains(text)
        if owned.CHAIN.fullmatch(chain) and f"legacy {family} {table} {chain}" not in known
    ]
    words: list[str] = []
    script: list[str] = []
    table, changes = "", []
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
            # Emptied first: they jump to one another.
            changes = [f"-F {chain}" for place, chain in ours if place == table]
        elif line.startswith("-A "):
            options = shlex.split(line)
            chain, target = options[1], _option(options, "-j") or _option(options, "-g")
            if (table, chain) not in ours and (table, target) in ours:
                words.append(f"{LEGACY[family]}: rule in {table} {chain} that jumps to {target}")
                changes.append(f"-D {line[3:]}")
        elif line == "COMMIT":
            changes += [f"-X {chain}" for place, chain in ours if place == table]
            script += [f"*{table}", *changes, "COMMIT"] if changes else []
    words += [f"{LEGACY[family]}: chain {table} {chain}" for table, chain in ours]
    return Removal(tuple(words), "".join(f"{line}\n" for line in script))


def _legacy_chains(text: str) -> list[tuple[str, str]]:
    chains, table = [], ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chains.append((table, line[1:].split()[0]))
    return chains


def _option(options: Sequence[str], name: str) -> str | None:
    return options[options.index(name) + 1] if name in options[:-1] else None
