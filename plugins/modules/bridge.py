#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bridge
short_description: Manage bridges, their ports and static FDB entries
version_added: 0.1.0
description:
  - Creates and removes Linux bridges, attaches their ports, and sets static entries of the forwarding database (FDB),
    addresses and routes.
  - Multicast snooping is off by default. With snooping and a querier on the network, the bridge would stop flooding
    the frames of a cluster's multicast MAC address after some seconds.
  - The module fails if the name belongs to an interface of another type. That interface is not changed.
options:
  bridges:
    description: Bridges to manage.
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
      exclusive:
        description:
          - Whether this task manages the whole bridge. It is created and removed, and ports, addresses, routes and
            FDB entries that are not listed are removed from it.
          - Use V(false) for a bridge that is managed elsewhere, such as one that the host's network configuration
            creates. It must exist. The listed ports, FDB entries and routes are added to it, or removed from it with
            O(state=absent). Everything else on it is left alone.
        type: bool
        default: true
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
      mcast_snooping:
        description: Whether the bridge snoops IGMP and MLD, and forwards multicast frames to subscribers only.
        type: bool
        default: false
      flood:
        description:
          - Whether frames to unknown unicast addresses are flooded to the ports.
          - Use V(false) if all addresses have static FDB entries. The frames of a member that is gone then reach
            nobody else.
        type: bool
        default: true
      learning:
        description: Whether the bridge learns source addresses from frames that arrive on the ports.
        type: bool
        default: true
      ports:
        description:
          - Interfaces that are ports of the bridge. They must exist in the same namespace.
          - Ports that are not listed are detached.
        type: list
        elements: str
        default: []
      fdb:
        description: Static FDB entries. Static entries of the listed ports that are not listed here are removed.
        type: list
        elements: dict
        default: []
        suboptions:
          mac:
            description: MAC address of the entry.
            type: str
            required: true
          port:
            description: Port to which frames for the address are forwarded. One of O(bridges[].ports).
            type: str
            required: true
  state:
    description: Whether the bridges should exist. The ports of a bridge that is removed stay.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - clustered.openvpn.kernel
seealso:
  - module: clustered.openvpn.veth
  - module: clustered.openvpn.bridge_uplink
"""

EXAMPLES = r"""
- name: Create the internal bridge of a cluster with two members
  clustered.openvpn.bridge:
    bridges:
      - name: br-vpn
        mac: 02:00:00:00:01:00
        addresses: [10.255.0.1/22]
        flood: false
        learning: false
        ports: [ve-vpn1, ve-vpn2]
        fdb:
          - mac: 02:00:00:00:01:01
            port: ve-vpn1
          - mac: 02:00:00:00:01:02
            port: ve-vpn2
        routes:
          - dst: 10.8.0.0/24
            via: 10.255.0.11

- name: Attach a member to a bridge of the host's network configuration
  clustered.openvpn.bridge:
    bridges:
      - name: br-lan
        exclusive: false
        ports: [ve-vpn1]
"""

RETURN = r"""
commands:
  description: Commands that are equivalent to the changes. Empty when nothing differs.
  type: list
  elements: str
  returned: success
  sample: [ip link add br-vpn type bridge mcast_snooping 0, ip link set dev ve-vpn1 master br-vpn]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _module
from ..module_utils._params import ParameterError
from ..module_utils._topology import bridges, reconcile

ARGUMENT_SPEC = {
    "bridges": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            **_module.INTERFACE_OPTIONS,
            "exclusive": {"type": "bool", "default": True},
            "mcast_snooping": {"type": "bool", "default": False},
            "flood": {"type": "bool", "default": True},
            "learning": {"type": "bool", "default": True},
            "ports": {"type": "list", "elements": "str", "default": []},
            "fdb": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "mac": {"type": "str", "required": True},
                    "port": {"type": "str", "required": True},
                },
            },
        },
    },
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    present = module.params["state"] == "present"
    try:
        desired = bridges.bridges_from(module.params["bridges"])
    except ParameterError as exc:
        module.fail_json(msg=str(exc))
    _module.run(module, lambda kernel: reconcile.bridges(kernel, desired, present))


if __name__ == "__main__":
    main()
