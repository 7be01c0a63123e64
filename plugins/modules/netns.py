#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: netns
short_description: Network namespaces, with loopback up and sysctls set
version_added: 0.1.0
description:
  - Makes or removes named network namespaces, as C(ip netns) does.
  - The loopback interface of each is up, and the sysctls given are set inside.
  - A sysctl that is not named is left as it is.
options:
  namespaces:
    description: The namespaces. A whole cluster is one task.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the namespace, as in C(/run/netns).
        type: str
        required: true
      sysctls:
        description:
          - Keys under C(net.) and their values, as C(sysctl) writes them.
          - A key may be written with slashes, for interface names that have dots in them.
        type: dict
        default: {}
  state:
    description:
      - V(present) makes what is missing and repairs what differs.
      - V(absent) removes the namespaces. Processes inside keep running in a namespace without a name, so stop them
        first.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - clustered.openvpn.kernel
seealso:
  - module: clustered.openvpn.veth
"""

EXAMPLES = r"""
- name: Two members
  clustered.openvpn.netns:
    namespaces:
      - name: vpn1
        sysctls:
          net.ipv4.ip_forward: 1
      - name: vpn2
        sysctls:
          net.ipv4.ip_forward: 1

- name: The second one goes
  clustered.openvpn.netns:
    namespaces:
      - name: vpn2
    state: absent
"""

RETURN = r"""
commands:
  description: The changes, as an administrator would type them. Empty when nothing was to do.
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
        wanted = namespaces.namespaces_from(module.params["namespaces"])
    except ParameterError as exc:
        module.fail_json(msg=str(exc))
    _module.run(module, lambda kernel: reconcile.namespaces(kernel, wanted, present))


if __name__ == "__main__":
    main()
