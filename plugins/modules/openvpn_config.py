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
    description: The configurations.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the instance. Letters, digits, hyphens and underscores.
        type: str
        required: true
      role:
        description: The directory, which must exist, and belongs to one of the distribution's units.
        type: str
        choices: [server, client]
        default: server
      content:
        description:
          - The configuration. It is shown in diffs, and nowhere else.
          - Required for O(state=present).
        type: str
  group:
    description: The group that may read it. It must exist. The owner is C(root), the mode C(0640).
    type: str
    default: openvpn
  state:
    description: V(absent) removes the files.
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

- name: Not these any more
  clustered.openvpn.openvpn_config:
    configurations:
      - name: office-tcp
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

from ansible_collections.clustered.openvpn.plugins.module_utils import _config_files, _params
from ansible_collections.clustered.openvpn.plugins.module_utils._instance import account_name, instance_name
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError

MODE = 0o640
ARGUMENT_SPEC = {
    "configurations": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "role": {"type": "str", "choices": ["server", "client"], "default": "server"},
            "content": {"type": "str"},
        },
    },
    "group": {"type": "str", "default": "openvpn"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


class Module(AnsibleModule):
    """Says nothing of contents but in a diff: they may have secrets, and the host's log has many readers."""

    def _log_invocation(self) -> None:
        names = ", ".join(repr(item["name"]) for item in self.params["configurations"])
        self.log(f"Invoked with state={self.params['state']} for {names}")

    def _return_formatted(self, kwargs: dict[str, t.Any]) -> None:
        kwargs.setdefault("invocation", {"module_args": {key: self.params.get(key) for key in ("group", "state")}})
        super()._return_formatted(kwargs)


def gid_of(module: AnsibleModule) -> int | None:
    """The group's number."""
    name = account_name("group", module.params["group"])
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as exc:
        if module.check_mode or module.params["state"] == "absent":
            return None
        raise ParameterError("group", name, "there is no such group; make it with ansible.builtin.group") from exc


def wanted_from(module: AnsibleModule) -> list[_config_files.ConfigFile]:
    """Parameters -> files, all of them checked before anything is touched."""
    present, gid, result = module.params["state"] == "present", gid_of(module), []
    for i, item in enumerate(module.params["configurations"]):
        where = f"configurations[{i}]"
        name = instance_name(f"{where}.name", item["name"])
        directory = f"/etc/openvpn/{item['role']}"
        if present and item["content"] is None:
            raise ParameterError(f"{where}.content", None, "give the configuration, or state: absent")
        if present and not os.path.isdir(directory) and not module.check_mode:
            raise ParameterError(f"{where}.role", item["role"], f"there is no directory {directory}; make it")
        try:
            content = (item["content"] or "").encode()
        except UnicodeEncodeError as exc:
            raise ParameterError(f"{where}.content", name, "write its content in UTF-8") from exc
        result.append(_config_files.ConfigFile(name, f"{directory}/{name}.conf", content, gid, MODE))
    _params.unique("configurations[].name", (file.path for file in result))
    return result


def run(module: AnsibleModule) -> None:
    wanted, present = wanted_from(module), module.params["state"] == "present"
    found = [_config_files.look(f"configurations[{i}].name", file.path) for i, file in enumerate(wanted)]
    if present:
        todo = [pair for pair in zip(wanted, found) if _config_files.differs(*pair)]
    else:
        todo = [(file, there) for file, there in zip(wanted, found) if there is not None]
    diff: list[dict[str, t.Any]] = []
    for file, there in todo:
        diff += _config_files.diff(file.path, there, file if present else None)
        if module.check_mode:
            continue
        try:
            if present:
                _config_files.write(file)
            else:
                os.unlink(file.path)
        except OSError as exc:
            module.fail_json(msg=f"{file.path}: {exc.strerror}")
    module.exit_json(changed=bool(todo), changed_names=[file.name for file, _there in todo], diff=diff)


def main() -> None:
    module = Module(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="this module writes root's files and must run as root: use 'become: true'")
    try:
        run(module)
    except (ParameterError, OSError) as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
