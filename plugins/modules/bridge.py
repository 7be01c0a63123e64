#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bridge
short_description: Bridges with ports, static FDB entries and addresses
version_added: 0.1.0
description:
  - Makes or removes Linux bridges, attaches their ports and keeps static entries of the forwarding database.
  - Multicast snooping is off unless asked for. A querier on the network would otherwise stop the bridge from
    flooding the
    frames of a cluster's multicast MAC after some seconds.
  - An interface of another kind under the name is never touched. The module fails and says what it found.
options:
  bridges:
    description: The bridges.
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
      exclusive:
        description:
          - Whether the bridge is all yours, so that lists are exact, and it is made and removed here.
          - With V(false) it is somebody else's. It must exist and stays as it is. The ports, FDB entries and routes
            that are named come to it, or leave it with O(state=absent).
        type: bool
        default: true
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
      mcast_snooping:
        description: Whether the bridge listens to IGMP and MLD.
        type: bool
        default: false
      flood:
        description:
          - Whether the ports get frames to unicast addresses that the bridge does not know.
          - Where each address has a static FDB entry, V(false) keeps the frames of a lost one from everybody else.
        type: bool
        default: true
      learning:
        description: Whether the bridge learns addresses from the frames of its ports.
        type: bool
        default: true
      ports:
        description: Names of the interfaces that are its ports, in the same namespace. The list is exact, so others
          leave the bridge.
        type: list
        elements: str
        default: []
      fdb:
        description: Static entries of the forwarding database. The list is exact for static entries of the ports.
        type: list
        elements: dict
        default: []
        suboptions:
          mac:
            description: The MAC address.
            type: str
            required: true
          port:
            description: The port behind which it is.
            type: str
            required: true
  state:
    description: Whether the bridges are to be there. Ports stay when their bridge goes.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - clustered.openvpn.kernel
seealso:
  - module: clustered.openvpn.veth
"""

EXAMPLES = r"""
- name: The internal bridge of a cluster with two members
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
"""

RETURN = r"""
commands:
  description: The changes, as an administrator would type them. Empty when nothing was to do.
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
        wanted = bridges.bridges_from(module.params["bridges"])
    except ParameterError as exc:
        module.fail_json(msg=str(exc))
    _module.run(module, lambda kernel: reconcile.bridges(kernel, wanted, present))


if __name__ == "__main__":
    main()
