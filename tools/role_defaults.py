"""Write each role's defaults/main.yml from its argument specs, or check that they agree.

The argument specs own the defaults; Ansible reads them from defaults/main.yml. Usage:
    python tools/role_defaults.py [--check]
Exit code 1 with --check when a file differs; the command to mend it is printed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parents[1] / "roles"
HEADER = "---\n# Generated from meta/argument_specs.yml by `make defaults`: change it there.\n"


class Indented(yaml.SafeDumper):
    """Lists indented under their key, as yamllint wants them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Never indentless."""
        super().increase_indent(flow, False)


def defaults_of(role: Path) -> str:
    """The text of defaults/main.yml for `role`: each option that has a default."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    values: dict[str, Any] = {}
    for entry_point in specs.values():
        for name, option in entry_point.get("options", {}).items():
            if "default" in option:
                values[name] = option["default"]
    body = yaml.dump(values, Dumper=Indented, sort_keys=False, width=1000) if values else "{}\n"
    return HEADER + body


def main() -> int:
    """Write or check every role."""
    check = "--check" in sys.argv[1:]
    stale = []
    for role in sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml")):
        path = role / "defaults/main.yml"
        text = defaults_of(role)
        if path.exists() and path.read_text() == text:
            continue
        stale.append(path)
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    if check and stale:
        print("Differs from meta/argument_specs.yml, run `make defaults`:", *stale, sep="\n  ")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
