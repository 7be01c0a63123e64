#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: netns
short_description: Manage network namespaces
version_added: 0.1.0
description:
  - Creates and removes named network namespaces, like C(ip netns).
  - Sets the loopback interface of each namespace up, and the given sysctls inside it. Other sysctls are left alone.
options:
  namespaces:
    description: Network namespaces to manage. One task can manage all members of a cluster.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the namespace, as C(ip netns list) shows it.
        type: str
        required: true
      sysctls:
        description:
          - Sysctls under C(net.) to set inside the namespace, as a dictionary of keys and values.
          - Write a key with slashes if an interface name in it contains dots, for example
            V(net/ipv4/conf/eth0.5/rp_filter).
        type: dict
        default: {}
  state:
    description:
      - V(present) creates missing namespaces, and sets loopback interfaces and sysctls that differ.
      - V(absent) removes the namespaces. Stop the processes inside first. They would keep running in a namespace
        that no longer has a name.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - clustered.openvpn.kernel
seealso:
  - module: clustered.openvpn.veth
"""

EXAMPLES = r"""
- name: Create the namespaces of two cluster members
  clustered.openvpn.netns:
    namespaces:
      - name: vpn1
        sysctls:
          net.ipv4.ip_forward: 1
      - name: vpn2
        sysctls:
          net.ipv4.ip_forward: 1

- name: Remove the namespace of the second member
  clustered.openvpn.netns:
    namespaces:
      - name: vpn2
    state: absent
"""

RETURN = r"""
commands:
  description: Commands that are equivalent to the changes. Empty when nothing differs.
  type: list
  elements: str
  returned: success
  sample: [ip netns add vpn1, ip -n vpn1 link set dev lo up]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _module
from ..module_utils._params import ParameterError
from ..module_utils._topology import namespaces, reconcile

ARGUMENT_SPEC = {
    "namespaces": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "sysctls": {"type": "dict", "default": {}},
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    present = module.params["state"] == "present"
    try:
        desired = namespaces.namespaces_from(module.params["namespaces"])
    except ParameterError as exc:
        module.fail_json(msg=str(exc))
    _module.run(module, lambda kernel: reconcile.namespaces(kernel, desired, present))


if __name__ == "__main__":
    main()
