#!/usr/bin/python
# Copyright: the Kubewright authors
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""Files, directories, links and marked blocks on a node, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_files
short_description: Keep files on a node as described
description:
  - Takes a list of files in one call and writes the ones that differ.
  - Compares the actual bytes, mode, owner and group each time.
  - Each file is written to a temporary file, synced to disk and renamed. A killed run
    leaves each file either old or new, and the next run finishes the list.
  - All entries are checked before the first one is written.
version_added: 0.1.0
author: The Kubewright authors (@kubewright)
options:
  files:
    description:
      - The files, written in this order.
      - Missing parent directories are created with mode C(0755).
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path on the node.
        type: path
        required: true
      state:
        description:
          - V(file) is a regular file with exactly the given content. A link in its place
            is replaced, not followed.
          - V(block) is a marked part of a text file with other owners, such as C(/etc/hosts).
            The rest of the file is left alone, and so are its mode and owner unless given.
            Empty content removes the block.
          - V(link) is a symbolic link to O(files[].src).
          - V(directory) is a directory; its content is ignored,
            except with O(files[].exclusive). A link or a file in
            its place is refused.
          - V(absent) removes a file, a link or an empty directory. A directory that is
            not empty is refused.
        type: str
        choices: [file, directory, link, absent, block]
        default: file
      content:
        description: Text of a file or a block. It is logged; put secrets into O(secrets).
        type: str
      content_b64:
        description: The same for binary content, in base64.
        type: str
      mode:
        description: Octal text. V(0644) for a file and V(0755) for a directory by default.
        type: str
      owner:
        description: Name or number of the user. C(root) by default for a file or directory.
        type: str
      group:
        description: Name or number of the group. C(root) by default for a file or directory.
        type: str
      src:
        description: Where a link points.
        type: str
      exclusive:
        description:
          - Pattern of names, such as V(*.conf). Files and links with a matching name in or
            below the directory are removed unless they are listed.
        type: str
      marker:
        description:
          - Name of a block. The block is between the lines C(# BEGIN kubewright <marker>) and
            C(# END kubewright <marker>).
        type: str
      secret:
        description:
          - Whether the content is in O(secrets), under the same path, and must not be shown.
        type: bool
        default: false
  secrets:
    description:
      - Content of the files with O(files[].secret=true), by path.
      - It is a separate option because Ansible hides whole options, not single entries. It
        never appears in logs, diffs or the module's result.
      - It travels as the module's input. With pipelining on it is never written to a temporary
        file on the node.
    type: dict
    default: {}
extends_documentation_fragment:
  - kubewright.cluster.fence
attributes:
  check_mode:
    description: Predicts what would be written, and writes nothing.
    support: full
  diff_mode:
    description: Shows each path before and after. For a secret it only shows that it differs.
    support: full
  idempotent:
    description: The same list again changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Write the API load balancer's files
  kubewright.cluster.node_files:
    files:
      - path: /etc/kubewright/haproxy.cfg
        content: "{{ lookup('ansible.builtin.template', 'haproxy.cfg.j2') }}"
      - path: /etc/hosts
        state: block
        marker: api
        content: 127.0.0.1 api.demo.internal
      - path: /etc/kubernetes/pki/ca.key
        mode: "0600"
        secret: true
    secrets:
      /etc/kubernetes/pki/ca.key: "{{ identity.control_plane_pki['ca.key'] }}"
"""

RETURN = r"""
paths:
  description:
    - The paths that were written, or would be in check mode. Files that only differed in
      mode or owner are not included, since no unit has to reload them.
  returned: success
  type: list
  elements: str
  sample: [/etc/kubewright/haproxy.cfg]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubewright.cluster.plugins.module_utils._base.errors import (
    FORESEEN,
    failure,
)
from ansible_collections.kubewright.cluster.plugins.module_utils._fence import fencing
from ansible_collections.kubewright.cluster.plugins.module_utils._files import differences, options


def without_content(params: dict[str, Any]) -> dict[str, Any]:
    """The invocation as it is reported: which files, not what is in them."""
    hidden = ("content", "content_b64")
    files = [
        {key: value for key, value in item.items() if key not in hidden and value is not None}
        for item in params["files"]
    ]
    return {**params, "files": files, "secrets": sorted(params["secrets"])}


def main() -> None:
    """Compare and write under the node lock."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "state": {
                        "type": "str",
                        "choices": ["file", "directory", "link", "absent", "block"],
                        "default": "file",
                    },
                    "content": {"type": "str"},
                    "content_b64": {"type": "str"},
                    "mode": {"type": "str"},
                    "owner": {"type": "str"},
                    "group": {"type": "str"},
                    "src": {"type": "str"},
                    "marker": {"type": "str"},
                    "exclusive": {"type": "str"},
                    "secret": {"type": "bool", "default": False, "no_log": False},
                },
            },
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "epoch": {"type": "int"},
            "run": {"type": "str"},
            "lock_timeout": {"type": "int", "default": 600},
        },
        supports_check_mode=True,
    )
    params = module.params
    invocation = {"module_args": without_content(params)}
    try:
        desired = options.parse(params["files"], params["secrets"])
        with fencing.node_lock(
            fencing.claim_of(params), params["lock_timeout"], check_mode=module.check_mode
        ):
            changes = differences.find(desired)
            if not module.check_mode:
                differences.apply(changes)
    except FORESEEN as error:
        module.fail_json(**failure(error), invocation=invocation)
    result: dict[str, Any] = {
        "changed": bool(changes),
        "paths": list(
            dict.fromkeys(str(change.desired.path) for change in changes if change.rewrites)
        ),
        "invocation": invocation,
    }
    if module._diff:
        result["diff"] = [change.diff() for change in changes]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
