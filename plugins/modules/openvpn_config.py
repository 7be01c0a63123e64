#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_config
short_description: Manage OpenVPN configuration files
version_added: 0.1.0
description:
  - Writes or removes the files C(/etc/openvpn/ROLE/NAME.conf), from which M(clustered.openvpn.openvpn_instance) starts
    OpenVPN processes.
  - A cluster has one configuration for each instance of each member. M(ansible.builtin.template) in a loop takes most
    of a second per file, even if nothing changes. This module writes all files in about the same time.
  - Each file is replaced atomically. A symbolic link is replaced by a file. Running processes are not restarted.
options:
  configurations:
    description: Configurations to write. Required if O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the instance. Letters, digits, hyphens and underscores.
        type: str
        required: true
      content:
        description: Content of the file. It appears in diffs, but in no other output and not in the log of the host.
        type: str
        required: true
  names:
    description: Names of the instances whose configurations are removed. Required if O(state=absent).
    type: list
    elements: str
  role:
    description: Role of the instances, which selects the directory. For O(state=present) the directory must exist.
    type: str
    choices: [server, client]
    default: server
  group:
    description:
      - Group with read access to the files. For O(state=present) it must exist.
      - The files belong to C(root) and have the mode C(0640).
    type: str
    default: openvpn
  state:
    description: V(present) writes O(configurations). V(absent) removes the configurations of O(names).
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: A directory or group that does not exist is assumed to be created by an earlier task.
  diff_mode:
    support: full
    description: Shows the content of the files, and their owner and mode if these change.
  platform:
    support: full
    platforms: posix
    description: Requires Linux and root.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.openvpn_instance
"""

EXAMPLES = r"""
- name: Configure two instances with different ports
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

- name: Configure a client
  clustered.openvpn.openvpn_config:
    role: client
    configurations:
      - name: office
        content: "{{ lookup('ansible.builtin.template', 'office.conf.j2') }}"

- name: Remove the configuration of an instance
  clustered.openvpn.openvpn_config:
    names: [office-tcp]
    state: absent
"""

RETURN = r"""
changed_names:
  description: Names of the instances whose files were written or removed. In check mode, those that would be.
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
from ..module_utils._openvpn.instance import account_name, config_directory, config_path, instance_name
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
    """Keeps contents out of the log and the result (except for diffs): they may contain secrets."""

    def _log_invocation(self) -> None:
        names = self.params["names"] or [item["name"] for item in self.params["configurations"] or []]
        self.log(f"Invoked with state={self.params['state']} role={self.params['role']} for {names}")

    def _return_formatted(self, kwargs: dict[str, t.Any]) -> None:
        # an option with a misspelled name may contain configurations, too.
        shown = ("names", "role", "group", "state")
        kwargs.setdefault("invocation", {"module_args": {key: self.params.get(key) for key in shown}})
        super()._return_formatted(kwargs)


def find_gid(module: AnsibleModule) -> int | None:
    """The GID of the parameter C(group); None if it does not exist yet (check mode). Raises ParameterError."""
    name = account_name("group", module.params["group"])
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as exc:
        if module.check_mode:
            return None
        raise ParameterError("group", name, "there is no such group; create it with ansible.builtin.group") from exc


def desired_files(module: AnsibleModule) -> dict[str, _files.File | None]:
    """Path -> desired file, or None for a file to remove. Raises ParameterError."""
    role = module.params["role"]
    parameter = "configurations" if module.params["state"] == "present" else "names"
    if module.params[parameter] is None:
        raise ParameterError(parameter, None, "use a list, [] for an empty one")
    if parameter == "names":
        names = (instance_name(f"names[{i}]", name) for i, name in enumerate(module.params["names"]))
        return {config_path(role, name): None for name in names}
    directory = config_directory(role)
    if not os.path.isdir(directory) and not module.check_mode:
        raise ParameterError("role", role, f"there is no directory {directory}; create it")
    gid, items = find_gid(module), module.params["configurations"]
    _params.unique("configurations[].name", (item["name"] for item in items))
    result: dict[str, _files.File | None] = {}
    for i, item in enumerate(items):
        name = instance_name(f"configurations[{i}].name", item["name"])
        try:
            result[config_path(role, name)] = _files.File(item["content"].encode(), MODE, gid)
        except UnicodeEncodeError as exc:
            raise ParameterError(f"configurations[{i}].content", name, "write its content in UTF-8") from exc
    return result


def run(module: AnsibleModule) -> None:
    desired = desired_files(module)
    parameter = "configurations[].name" if module.params["state"] == "present" else "names[]"
    present = {path: _files.look(parameter, path) for path in desired}
    changed = [path for path in desired if _files.differs(present[path], desired[path])]
    for path in () if module.check_mode else desired:
        file = desired[path]
        try:
            if file is None:
                _files.remove(path)
            elif path in changed:
                _files.replace(path, file.content, file.mode, file.gid)
            else:
                _files.forget(path)
        except OSError as exc:
            module.fail_json(msg=f"{path}: {exc.strerror}")
    module.exit_json(
        changed=bool(changed),
        changed_names=[os.path.basename(path).removesuffix(".conf") for path in changed],
        diff=[part for path in changed for part in _files.diff(path, present[path], desired[path])],
    )


def main() -> None:
    module = Module(
        argument_spec=ARGUMENT_SPEC,
        required_if=[("state", "present", ["configurations"]), ("state", "absent", ["names"])],
        mutually_exclusive=[("configurations", "names")],
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(msg="this module writes files of root and must run as root: use 'become: true'")
    try:
        run(module)
    except (ParameterError, OSError) as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
