#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bridge_uplink
short_description: A NIC becomes the port of a bridge, with all that is on it
version_added: 0.1.0
description:
  - Makes a bridge with the MAC address and MTU of a NIC, the NIC its port, and moves the NIC's addresses and routes to
    the bridge, in one go. Then the gateway must answer, or everything is taken back and the module fails.
  - For static addresses only. A NIC with leased or learned addresses or routes is refused, as its network manager
    would bring them back. Where there is one, better make the bridge in its configuration.
  - The change is made, checked and taken back by a process of its own session. The connection that the module was
    started over may break meanwhile.
  - Nothing is written to the host's network configuration. After a reboot the NIC is as it was.
options:
  bridge:
    description: Name of the bridge, at most 15 bytes.
    type: str
    required: true
  interface:
    description: The NIC. No port of another bridge or bond.
    type: str
    required: true
  gateway:
    description:
      - A neighbour that must answer ARP or neighbour discovery before and after the change.
      - The gateway of the default route over O(interface) when left out. If it has none, nothing is checked.
    type: str
  timeout:
    description: How many seconds the gateway has for its answer.
    type: float
    default: 5
  state:
    description: V(absent) moves all that is on the bridge to the NIC and removes the bridge, if it has no other ports.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Tells what would change, and changes nothing.
  diff_mode:
    support: full
    description: Shows the changes, a command a line.
  platform:
    platforms: Linux
    support: full
    description: Runs on Linux as root, and needs iproute2.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.bridge
notes:
  - Firewall rules that name the NIC as C(iif) or C(iifname) do not match any more. Packets come in on the bridge.
"""

EXAMPLES = r"""
- name: The members are to be on the LAN of eth1
  clustered.openvpn.bridge_uplink:
    bridge: br-lan
    interface: eth1
    gateway: 192.0.2.1
"""

RETURN = r"""
commands:
  description: The changes, as an administrator would type them. Empty when nothing was to do.
  type: list
  elements: str
  returned: success
  sample: [ip link add name br-lan address 02:00:00:00:00:01 mtu 1500 type bridge mcast_snooping 0]
"""

import os
from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _params as p
from ..module_utils._kernel.command import CommandError
from ..module_utils._kernel.steps import prepared_diff
from ..module_utils._topology import nic as _nic
from ..module_utils._topology import nic_move

ARGUMENT_SPEC = {
    "bridge": {"type": "str", "required": True},
    "interface": {"type": "str", "required": True},
    "gateway": {"type": "str"},
    "timeout": {"type": "float", "default": 5},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def wanted(params: dict) -> tuple:
    """The parameters, validated: the names of bridge and NIC, the gateway, and its time."""
    gateway, timeout = params["gateway"], params["timeout"]
    if not 0 < timeout <= 60:
        raise p.ParameterError("timeout", timeout, "a number of seconds, more than 0 and up to 60")
    return (
        p.interface_name("bridge", params["bridge"]),
        p.interface_name("interface", params["interface"]),
        p.address("gateway", gateway) if gateway else None,
        timeout,
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="this module changes the host's network and must run as root: use 'become: true'")
    try:
        name, interface, gateway, timeout = wanted(module.params)
        nic, bridge = nic_move.show(interface), nic_move.show(name)
        if bridge and module.check_mode:  # a task before this one may take its other ports off it
            bridge = replace(bridge, ports=())
        plan = _nic.plan_take if module.params["state"] == "present" else _nic.plan_give_back
        move = plan(nic, bridge, interface, name)
        if move and not module.check_mode:
            gateway = gateway or move.source.gateway()
            if gateway and not nic_move.answers(gateway, move.source.name, timeout):
                remedy = "name a neighbour that does, since it is what shows whether the change went well"
                raise p.ParameterError("gateway", gateway, f"does not answer on {move.source.name} as it is: {remedy}")
            failure = nic_move.change(move, gateway, timeout)
            if failure:
                module.fail_json(msg=f"{failure}; everything was taken back")
    except (p.ParameterError, CommandError) as exc:
        module.fail_json(msg=str(exc))
    commands = move.commands if move else []
    module.exit_json(changed=bool(commands), commands=commands, diff=prepared_diff(commands))


if __name__ == "__main__":
    main()
