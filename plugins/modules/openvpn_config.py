#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_config
short_description: Configurations of OpenVPN processes, all of them in one task
version_added: 0.1.0
description:
  - Writes or removes C(/etc/openvpn/ROLE/NAME.conf), which M(clustered.openvpn.openvpn_instance) runs a process from.
  - A cluster has a configuration for each instance of each member. M(ansible.builtin.template) in a loop takes most of
    a second for each of them, also when there is nothing to do. This module takes that for all of them.
  - Each file is replaced as a whole, a symbolic link by a file. A process that runs is not touched.
options:
  configurations:
    description: The configurations to write. For O(state=present), which requires it.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the instance. Letters, digits, hyphens and underscores.
        type: str
        required: true
      content:
        description: The configuration. It is shown in diffs, and nowhere else.
        type: str
        required: true
  names:
    description: Names of the instances whose configurations are removed. For O(state=absent), which requires it.
    type: list
    elements: str
  role:
    description: The directory, which belongs to one of the distribution's units. For O(state=present) it must exist.
    type: str
    choices: [server, client]
    default: server
  group:
    description:
      - The group that may read the files. For O(state=present) it must exist.
      - The owner is C(root), the mode C(0640).
    type: str
    default: openvpn
  state:
    description: V(present) writes O(configurations), V(absent) removes those of O(names).
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: A directory or a group that does not exist is taken as made by an earlier task.
  diff_mode:
    support: full
    description: The text of the files, and their owner and rights where these change.
  platform:
    support: full
    platforms: posix
    description: Linux, as root.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.openvpn_instance
"""

EXAMPLES = r"""
- name: Two instances that differ in their ports
  clustered.openvpn.openvpn_config:
    configurations:
      - name: office-udp
        content: |
          config /etc/openvpn/office.conf
          proto udp
          port 1194
      - name: office-tcp
        content: |
          config /etc/openvpn/office.conf
          proto tcp-server
          port 443

- name: A client
  clustered.openvpn.openvpn_config:
    role: client
    configurations:
      - name: office
        content: "{{ lookup('ansible.builtin.template', 'office.conf.j2') }}"

- name: Not these any more
  clustered.openvpn.openvpn_config:
    names: [office-tcp]
    state: absent
"""

RETURN = r"""
changed_names:
  description: Names of the instances whose files were (in check mode, would be) written or removed.
  type: list
  elements: str
  returned: always
  sample: [office-tcp]
"""

import grp
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _files, _params
from ..module_utils._openvpn.instance import account_name, instance_name
from ..module_utils._params import ParameterError

MODE = 0o640
ARGUMENT_SPEC = {
    "configurations": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "content": {"type": "str", "required": True},
        },
    },
    "names": {"type": "list", "elements": "str"},
    "role": {"type": "str", "choices": ["server", "client"], "default": "server"},
    "group": {"type": "str", "default": "openvpn"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


class Module(AnsibleModule):
    """Says nothing of contents but in a diff: they may have secrets, and the host's log has many readers."""

    def _log_invocation(self) -> None:
        names = self.params["names"] or [item["name"] for item in self.params["configurations"] or []]
        self.log(f"Invoked with state={self.params['state']} role={self.params['role']} for {names}")

    def _return_formatted(self, kwargs: dict[str, t.Any]) -> None:
        # Not all but the configurations: an option that is misspelt may have them too.
        shown = ("names", "role", "group", "state")
        kwargs.setdefault("invocation", {"module_args": {key: self.params.get(key) for key in shown}})
        super()._return_formatted(kwargs)


def gid_of(module: AnsibleModule) -> int | None:
    """The group's number."""
    name = account_name("group", module.params["group"])
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as exc:
        if module.check_mode:
            return None
        raise ParameterError("group", name, "there is no such group; make it with ansible.builtin.group") from exc


def wanted_from(module: AnsibleModule, directory: str) -> dict[str, _files.File | None]:
    """Parameters -> name and file, nothing for one to remove; all of them checked before anything is touched."""
    parameter = "configurations" if module.params["state"] == "present" else "names"
    if module.params[parameter] is None:
        raise ParameterError(parameter, None, "give a list, [] for none")
    if parameter == "names":
        return {instance_name(f"names[{i}]", name): None for i, name in enumerate(module.params["names"])}
    if not os.path.isdir(directory) and not module.check_mode:
        raise ParameterError("role", module.params["role"], f"there is no directory {directory}; make it")
    gid, items = gid_of(module), module.params["configurations"]
    _params.unique("configurations[].name", (item["name"] for item in items))
    result: dict[str, _files.File | None] = {}
    for i, item in enumerate(items):
        name = instance_name(f"configurations[{i}].name", item["name"])
        try:
            result[name] = _files.File(item["content"].encode(), MODE, gid)
        except UnicodeEncodeError as exc:
            raise ParameterError(f"configurations[{i}].content", name, "write its content in UTF-8") from exc
    return result


def run(module: AnsibleModule) -> None:
    directory = f"/etc/openvpn/{module.params['role']}"
    wanted = {f"{directory}/{name}.conf": file for name, file in wanted_from(module, directory).items()}
    parameter = "configurations[].name" if module.params["state"] == "present" else "names[]"
    there = {path: _files.look(parameter, path) for path in wanted}
    todo = [path for path in wanted if _files.differs(there[path], wanted[path])]
    for path in () if module.check_mode else wanted:
        file = wanted[path]
        try:
            if file is None:
                _files.remove(path)
            elif path in todo:
                _files.replace(path, file.content, file.mode, file.gid)
            else:
                _files.forget(path)
        except OSError as exc:
            module.fail_json(msg=f"{path}: {exc.strerror}")
    module.exit_json(
        changed=bool(todo),
        changed_names=[os.path.basename(path).removesuffix(".conf") for path in todo],
        diff=[one for path in todo for one in _files.diff(path, there[path], wanted[path])],
    )


def main() -> None:
    module = Module(
        argument_spec=ARGUMENT_SPEC,
        required_if=[("state", "present", ["configurations"]), ("state", "absent", ["names"])],
        mutually_exclusive=[("configurations", "names")],
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(msg="this module writes root's files and must run as root: use 'become: true'")
    try:
        run(module)
    except (ParameterError, OSError) as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
