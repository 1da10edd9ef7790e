"""Write which fields the kubelet's configuration has in each minor of the image catalogue.

Their names and kinds are read from KubeletConfiguration in the Go module k8s.io/kubelet
(config/v1beta1/types.go) of the minor's newest release, which `go mod download` verifies. Usage:
    python tools/kubelet_fields.py
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from kubewright.image.catalogue import Catalogue

TARGET = Path(__file__).parents[1] / "orchestrator/src/kubewright/spec/kubelet_fields"
STRUCT = re.compile(r"^type KubeletConfiguration struct \{\n(.*?)^\}$", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r'^\t\w+\s+(\S+)\s+`json:"(\w+)[^"]*"', re.MULTILINE)
NAMED = re.compile(r"^type (\w+) (\S+)", re.MULTILINE)
#: Go's basic types, and those of other packages.
KINDS = {
    "bool": "bool",
    "int32": "int",
    "int64": "int",
    "float64": "float",
    "string": "string",
    "struct": "struct",
    "metav1.Duration": "duration",
    "logsapi.LoggingConfiguration": "struct",
    "tracingapi.TracingConfiguration": "struct",
    "v1.Taint": "struct",
}


def kind(go: str, named: dict[str, str]) -> str:
    """The kind of a Go type; *named*: what the file's own types are. KeyError for an unknown."""
    go = go.removeprefix("*")
    for prefix in ("[]", "map[string]"):
        if go.startswith(prefix):
            return prefix + kind(go.removeprefix(prefix), named)
    return kind(named[go], named) if go in named else KINDS[go]


def fields(source: str) -> dict[str, str]:
    """The kind of each field, by name, in the text of a types.go."""
    struct = STRUCT.search(source)
    if struct is None:
        raise ValueError("there is no KubeletConfiguration in it")
    named = {name: go.removesuffix("{") for name, go in NAMED.findall(source)}
    return {name: kind(go, named) for go, name in sorted(FIELD.findall(struct[1]), key=_name)}


def _name(found: tuple[str, str]) -> str:
    return found[1]


def main() -> int:
    """Write one file a minor."""
    catalogue = Catalogue.load()
    for minor in sorted({version.rpartition(".")[0] for version in catalogue.versions()}):
        patch = catalogue.resolve(minor).removeprefix("1.")
        command = ["go", "mod", "download", "-json", f"k8s.io/kubelet@v0.{patch}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        source = Path(json.loads(done.stdout)["Dir"]) / "config/v1beta1/types.go"
        text = json.dumps(fields(source.read_text("utf-8")), indent=2)
        (TARGET / f"{minor}.json").write_text(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
