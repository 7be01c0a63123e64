#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: veth
short_description: Manage veth pairs between network namespaces
version_added: 0.1.0
description:
  - Creates and removes veth pairs, each end in its network namespace, and sets MAC address, MTU, addresses and routes
    of both ends.
  - Existing pairs are kept, and only the settings that differ are changed. Two veth interfaces that have the given
    names but are not the ends of one pair are removed and created again.
  - The module fails if one of the names belongs to an interface of another type. That interface is not changed.
options:
  veths:
    description: veth pairs to manage. One task can manage all members of a cluster.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the interface, at most 15 bytes.
        type: str
        required: true
      netns:
        description: Network namespace of the interface. Omit for the host's own.
        type: str
      mac:
        description: MAC address. Omit to keep the one that the kernel chose.
        type: str
      mtu:
        description: MTU in bytes. Omit to keep the one that the kernel chose.
        type: int
      up:
        description: Whether the interface is up.
        type: bool
        default: true
      addresses:
        description:
          - IPv4 and IPv6 addresses with prefix length. Addresses that are not listed are removed.
          - IPv6 link-local addresses are left alone.
        type: list
        elements: str
        default: []
      routes:
        description:
          - Routes over the interface, added with the protocol C(static).
          - Routes of that protocol that are not listed are removed; routes of other protocols are left alone.
        type: list
        elements: dict
        default: []
        suboptions:
          dst:
            description: Destination network, or V(default).
            type: str
            required: true
          via:
            description: Address of the gateway.
            type: str
          src:
            description: Preferred source address.
            type: str
      peer:
        description: The other end of the pair.
        type: dict
        required: true
        suboptions:
          name:
            description: Name of the interface, at most 15 bytes.
            type: str
            required: true
          netns:
            description: Network namespace of the interface. Omit for the host's own.
            type: str
          mac:
            description: MAC address. Omit to keep the one that the kernel chose.
            type: str
          mtu:
            description: MTU in bytes. Omit to keep the one that the kernel chose.
            type: int
          up:
            description: Whether the interface is up.
            type: bool
            default: true
          addresses:
            description:
              - IPv4 and IPv6 addresses with prefix length. Addresses that are not listed are removed.
              - IPv6 link-local addresses are left alone.
            type: list
            elements: str
            default: []
          routes:
            description:
              - Routes over the interface, added with the protocol C(static).
              - Routes of that protocol that are not listed are removed; routes of other protocols are left alone.
            type: list
            elements: dict
            default: []
            suboptions:
              dst:
                description: Destination network, or V(default).
                type: str
                required: true
              via:
                description: Address of the gateway.
                type: str
              src:
                description: Preferred source address.
                type: str
  state:
    description: Whether the pairs should exist. Removing one end of a pair removes both.
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
- name: Connect a cluster member with the host
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

- name: Remove the connection
  clustered.openvpn.veth:
    veths:
      - name: ve-vpn1
        peer:
          name: eth0
          netns: vpn1
    state: absent
"""

RETURN = r"""
commands:
  description: Commands that are equivalent to the changes. Empty when nothing differs.
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
        desired = veths.veths_from(module.params["veths"])
    except ParameterError as exc:
        module.fail_json(msg=str(exc))
    _module.run(module, lambda kernel: reconcile.veths(kernel, desired, present))


if __name__ == "__main__":
    main()
