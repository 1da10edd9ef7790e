# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What who builds a system image and the nodes that take it must agree on. Pure."""

from __future__ import annotations

# Of manifest.json in the image.
SCHEMA = 1
# Go's name of an architecture, by the kernel's.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# What a signature is good for (ssh-keygen -Y), and how the file beside the image ends that has it.
NAMESPACE = "kubewright-image"
SUFFIX = ".sig"
