#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bridge_uplink
short_description: Move a NIC with its addresses and routes to a bridge
version_added: 0.1.0
description:
  - Creates a bridge with the MAC address and MTU of a NIC, attaches the NIC as its port, and moves the NIC's addresses
    and routes to the bridge.
  - Checks that the gateway still answers afterwards. If it does not, all changes are rolled back and the module fails.
  - Supports static addresses only. The module refuses a NIC with addresses or routes from DHCP or router
    advertisements, because the service that requested them would add them to the NIC again. Create the bridge in the
    configuration of that service instead.
  - A separate process changes, checks and rolls back, so that a lost SSH connection does not leave the host half
    changed.
  - The host's network configuration files are not changed. After a reboot the NIC is configured as before.
options:
  bridge:
    description: Name of the bridge, at most 15 bytes.
    type: str
    required: true
  interface:
    description: The NIC. It must not be a port of another bridge or bond.
    type: str
    required: true
  gateway:
    description:
      - Address of a host on the LAN that answers ARP or neighbour discovery. It is probed before and after the change.
      - Defaults to the gateway of the default route over O(interface). Without such a route nothing is probed.
    type: str
  timeout:
    description: Seconds to wait for an answer of the gateway. More than V(0), at most V(60).
    type: float
    default: 5
  state:
    description:
      - V(present) creates the bridge and moves the addresses and routes of the NIC to it.
      - V(absent) moves the addresses and routes of the bridge back to the NIC and removes the bridge. The module fails
        if the bridge has other ports.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Returns the changes without making them.
  diff_mode:
    support: full
    description: The diff lists the equivalent commands.
  platform:
    platforms: Linux
    support: full
    description: Linux. Requires root and iproute2.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.bridge
notes:
  - Packets arrive on the bridge afterwards. Firewall rules that match the NIC by C(iif) or C(iifname) must be changed
    to the bridge.
"""

EXAMPLES = r"""
- name: Attach eth1 to a bridge for cluster members
  clustered.openvpn.bridge_uplink:
    bridge: br-lan
    interface: eth1
    gateway: 192.0.2.1

- name: Move the addresses and routes back to eth1
  clustered.openvpn.bridge_uplink:
    bridge: br-lan
    interface: eth1
    state: absent
"""

RETURN = r"""
commands:
  description: Commands that are equivalent to the changes. Empty when nothing differs.
  type: list
  elements: str
  returned: success
  sample: [ip link add name br-lan address 02:00:00:00:00:01 mtu 1500 type bridge mcast_snooping 0]
"""

from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _module
from ..module_utils import _params as p
from ..module_utils._kernel.command import CommandError
from ..module_utils._kernel.steps import prepared_diff
from ..module_utils._topology import bridge_uplink, bridge_uplink_move

ARGUMENT_SPEC = {
    "bridge": {"type": "str", "required": True},
    "interface": {"type": "str", "required": True},
    "gateway": {"type": "str"},
    "timeout": {"type": "float", "default": 5},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def validated(params: dict) -> tuple:
    """Names of bridge and NIC, address of the gateway or None, and timeout in seconds. Raises ParameterError."""
    gateway, timeout = params["gateway"], params["timeout"]
    if not 0 < timeout <= 60:
        raise p.ParameterError("timeout", timeout, "must be more than 0 and at most 60 seconds")
    return (
        p.interface_name("bridge", params["bridge"]),
        p.interface_name("interface", params["interface"]),
        p.address("gateway", gateway) if gateway else None,
        timeout,
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    _module.require_root(module)
    try:
        name, interface, gateway, timeout = validated(module.params)
        nic, bridge = bridge_uplink_move.observe(interface), bridge_uplink_move.observe(name)
        if bridge and module.check_mode:  # an earlier task may detach the other ports
            bridge = replace(bridge, ports=())
        plan = bridge_uplink.plan_attach if module.params["state"] == "present" else bridge_uplink.plan_detach
        move = plan(nic, bridge, interface, name)
        if move and not module.check_mode:
            gateway = gateway or move.source.gateway()
            if gateway and not bridge_uplink_move.responds(gateway, move.source.name, timeout):
                remedy = "use a host on the LAN that does, since its answer shows whether the change succeeded"
                raise p.ParameterError("gateway", gateway, f"does not answer on {move.source.name}; {remedy}")
            failure = bridge_uplink_move.carry_out(move, gateway, timeout)
            if failure:
                module.fail_json(msg=f"{failure}; all changes were rolled back")
    except (p.ParameterError, CommandError) as exc:
        module.fail_json(msg=str(exc))
    commands = move.commands if move else []
    module.exit_json(changed=bool(commands), commands=commands, diff=prepared_diff(commands))


if __name__ == "__main__":
    main()
