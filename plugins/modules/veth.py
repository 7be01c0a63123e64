#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: veth
short_description: Pairs of virtual Ethernet interfaces, each end in its namespace
version_added: 0.1.0
description:
  - Makes or removes veth pairs. Each end is made directly in its namespace, with its MAC address, MTU, addresses and
    routes.
  - What differs is repaired by the smallest change. Two interfaces that have the names but are not the two ends of
    one pair are
    removed and made again.
  - An interface of another kind under one of the names is never touched. The module fails and says what it found.
options:
  veths:
    description: The pairs. A whole cluster is one task.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the interface, at most 15 bytes.
        type: str
        required: true
      netns:
        description: Name of the namespace that it is in. The host's own when left out.
        type: str
      mac:
        description: MAC address. The kernel's choice when left out.
        type: str
      mtu:
        description: Largest packet in bytes. The kernel's choice when left out.
        type: int
      up:
        description: Whether it is up.
        type: bool
        default: true
      addresses:
        description:
          - Addresses with their prefix length, IPv4 or IPv6. The list is exact, so others are removed.
          - IPv6 link-local addresses are the kernel's business.
        type: list
        elements: str
        default: []
      routes:
        description: Routes over this interface. The list is exact for routes with the protocol C(static); others are
          left alone.
        type: list
        elements: dict
        default: []
        suboptions:
          dst:
            description: The network, or V(default).
            type: str
            required: true
          via:
            description: The gateway.
            type: str
          src:
            description: The source address to prefer.
            type: str
      peer:
        description: The other end.
        type: dict
        required: true
        suboptions:
          name:
            description: Name of the interface, at most 15 bytes.
            type: str
            required: true
          netns:
            description: Name of the namespace that it is in. The host's own when left out.
            type: str
          mac:
            description: MAC address. The kernel's choice when left out.
            type: str
          mtu:
            description: Largest packet in bytes. The kernel's choice when left out.
            type: int
          up:
            description: Whether it is up.
            type: bool
            default: true
          addresses:
            description:
              - Addresses with their prefix length, IPv4 or IPv6. The list is exact, so others are removed.
              - IPv6 link-local addresses are the kernel's business.
            type: list
            elements: str
            default: []
          routes:
            description: Routes over this interface. The list is exact for routes with the protocol C(static); others
              are left alone.
            type: list
            elements: dict
            default: []
            suboptions:
              dst:
                description: The network, or V(default).
                type: str
                required: true
              via:
                description: The gateway.
                type: str
              src:
                description: The source address to prefer.
                type: str
  state:
    description: Whether the pairs are to be there.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - clustered.openvpn.kernel
seealso:
  - module: clustered.openvpn.netns
  - module: clustered.openvpn.bridge
"""

EXAMPLES = r"""
- name: A member's link, its other end meant for a bridge of the host
  clustered.openvpn.veth:
    veths:
      - name: ve-vpn1
        peer:
          name: eth0
          netns: vpn1
          mac: 02:00:00:00:01:01
          addresses: [10.255.0.11/22]
          routes:
            - dst: default
              via: 10.255.0.1
"""

RETURN = r"""
commands:
  description: The changes, as an administrator would type them. Empty when nothing was to do.
  type: list
  elements: str
  returned: success
  sample: [ip link add ve-vpn1 type veth peer name eth0 netns vpn1, ip link set dev ve-vpn1 up]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _module
from ..module_utils._params import ParameterError
from ..module_utils._topology import reconcile, veths

ARGUMENT_SPEC = {
    "veths": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            **_module.INTERFACE_OPTIONS,
            "peer": {"type": "dict", "required": True, "options": _module.INTERFACE_OPTIONS},
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    present = module.params["state"] == "present"
    try:
        wanted = veths.veths_from(module.params["veths"])
    except ParameterError as exc:
        module.fail_json(msg=str(exc))
    _module.run(module, lambda kernel: reconcile.veths(kernel, wanted, present))


if __name__ == "__main__":
    main()
