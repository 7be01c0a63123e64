#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tunnel_bundle
short_description: Combine several OpenVPN tunnels into one path between two sites
version_added: 0.1.0
description:
  - Manages one end of a bundle of point-to-point tunnels. Creates the tun or tap devices with their addresses, one
    routing table and routing rule per tunnel, the routes to the other site, and an nftables table that spreads packets
    for the other site over the tunnels, per packet or per flow.
  - The devices are persistent. The OpenVPN processes, managed with M(clustered.openvpn.openvpn_instance), attach to
    them. Addresses, routes and rules stay when a process ends.
  - All resources of a tunnel depend on its number alone, so tunnels can be added and removed without touching others.
  - The module does not decide which tunnels are in use. A watch at each end probes the tunnels and takes dead ones out
    of the spread. A new bundle starts without live tunnels, and the watch adds them.
  - The module starts and stops the watch on hosts without systemd. On others, the watch is a systemd unit, installed by
    M(clustered.openvpn.cluster_service).
  - The role C(tunnel_bundle) computes the parameters with the filter P(clustered.openvpn.bundle_layout#filter).
options:
  name:
    description: Name of the bundle. A lower-case letter, and up to nine of a-z, 0-9, - and _.
    type: str
    required: true
  netns:
    description: An existing network namespace that contains this end. The host's own namespace by default.
    type: str
  tunnels:
    description: All tunnels of the bundle. Devices of the bundle that are not listed are removed.
    type: list
    elements: dict
    required: true
    suboptions:
      number:
        description: Identifies the tunnel at both ends.
        type: int
        required: true
      device:
        description: Name of the tun or tap device.
        type: str
        required: true
      port:
        description: UDP port of the OpenVPN process.
        type: int
        required: true
      mark:
        description: Packet mark, and number of the routing table. At least 256.
        type: int
        required: true
      weight:
        description: Share of the packets, relative to the weights of the other tunnels. V(0) drains the tunnel.
        type: int
        default: 1
      rate:
        description:
          - Upper limit in Mbit/s, measured on packets that enter the tunnel. V(0) means no limit.
          - Enforced by a queueing discipline (C(tbf)). OpenVPN's own C(shaper) is not accurate above about 10 Mbit/s.
        type: float
        default: 0
      addresses:
        description: Addresses of the tunnel. One pair of IPv4 addresses, and optionally one pair of IPv6 addresses.
        type: list
        elements: dict
        required: true
        suboptions:
          local:
            description: Address of this end.
            type: str
            required: true
          peer:
            description:
              - Address of the other end.
              - An IPv6 peer gets a host route through this tunnel. If the host already has a route to it that is not
                this bundle's, the task fails before any change.
            type: str
            required: true
  networks:
    description:
      - Networks behind the other end, including the addresses of the other end in the bundle.
      - If the host already has a route to one of them that is not this bundle's and has no metric, the task fails
        before any change.
    type: list
    elements: str
    required: true
  addresses:
    description:
      - Addresses of this end, at most one per family. They are set on the loopback device and can be reached through
        any tunnel.
    type: list
    elements: str
    default: []
  former_addresses:
    description: Previous addresses of this end, which are removed.
    type: list
    elements: str
    default: []
  device_type:
    description: V(tap) carries Ethernet frames, which costs 14 bytes per packet.
    type: str
    choices: [tun, tap]
    default: tun
  spread:
    description:
      - V(per_packet) distributes single packets, so that one connection can use all tunnels.
      - V(per_flow) keeps all packets of a connection in one tunnel.
    type: str
    choices: [per_packet, per_flow]
    default: per_packet
  snat:
    description:
      - Source NAT for packets of this site that enter a tunnel. V(none) keeps the source address.
      - V(common) uses this end's address in the bundle.
      - V(tunnel) uses the address of the tunnel that the first packet of a connection takes.
      - Both work with any spread, because the other end sends packets to all of these addresses through all tunnels.
    type: str
    choices: [none, common, tunnel]
    default: none
  mtu:
    description: MTU of the devices, 1280 to 65535.
    type: int
    default: 1448
  queue:
    description: Length of the transmit queue of each device, in packets.
    type: int
    default: 1000
  user:
    description: User that may attach to the devices. The user that OpenVPN runs as.
    type: str
    default: openvpn
  group:
    description: Group that may attach to the devices. The group that OpenVPN runs as.
    type: str
    default: openvpn
  timeout:
    description:
      - Seconds without received packets after which a tunnel leaves the spread, 0.2 to 60.
      - V(0) switches the watch off. All tunnels are then in the spread at all times.
    type: float
    default: 1.2
  probe_port:
    description: UDP port of the probes, on the addresses of the tunnels. The same at both ends.
    type: int
    default: 11940
  reordering:
    description:
      - For TCP connections of the host itself, the number of segments that may arrive late before one counts as lost.
      - V(0) uses C(net.ipv4.tcp_reordering).
    type: int
    default: 0
  congestion_control:
    description:
      - Congestion control for TCP connections of the host itself.
      - Empty uses C(net.ipv4.tcp_congestion_control).
    type: str
    default: ""
  rule_priority:
    description: Priority of the routing rules.
    type: int
    default: 10000
  check_ports:
    description: Whether to fail, before any change, if another process listens on a port of the tunnels or the probes.
    type: bool
    default: true
  supervisor:
    description: Where the watch runs. V(auto) is V(systemd) on hosts that run systemd, and V(process) on others.
    type: str
    choices: [auto, systemd, process]
    default: auto
  state:
    description: V(absent) removes all tunnels of the bundle, including those that are not in O(tunnels).
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - clustered.openvpn.kernel
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.openvpn_instance
  - plugin: clustered.openvpn.bundle_layout
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Create this end of a bundle of two tunnels
  clustered.openvpn.tunnel_bundle:
    name: site
    networks: [10.255.252.128/25, 192.168.2.0/24]
    addresses: [10.255.252.1]
    tunnels:
      - number: 1
        device: site-1
        port: 1195
        mark: 1195
        addresses:
          - local: 10.255.252.2
            peer: 10.255.252.130
      - number: 2
        device: site-2
        port: 1196
        mark: 1196
        weight: 3
        addresses:
          - local: 10.255.252.3
            peer: 10.255.252.131

- name: Remove the bundle that a layout describes
  clustered.openvpn.tunnel_bundle: "{{ layout.bundles[0] | combine({'state': 'absent'}) }}"
  vars:
    layout: "{{ lookup('ansible.builtin.file', 'site.json') | from_json }}"
"""

RETURN = r"""
commands:
  description: Commands that are equivalent to the changes. Empty if nothing was changed.
  type: list
  elements: str
  returned: success
  sample: ["ip tuntap add dev site-1 mode tun user openvpn group openvpn"]
made:
  description:
    - Devices that were created or recreated.
    - An OpenVPN process that was attached to the previous device of this name must be restarted.
  type: list
  elements: str
  returned: success
  sample: [site-1]
live:
  description: Numbers of the tunnels that are in the spread.
  type: list
  elements: int
  returned: success
  sample: [1, 2]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _module
from ..module_utils._bundle import ports, reconcile, watch_process
from ..module_utils._bundle.bundle import BUNDLE_OPTIONS, bundle_from
from ..module_utils._kernel.command import CommandError
from ..module_utils._openvpn.supervisor import has_systemd
from ..module_utils._params import ParameterError

ARGUMENT_SPEC: dict[str, t.Any] = {
    **BUNDLE_OPTIONS,
    "check_ports": {"type": "bool", "default": True},
    "supervisor": {"type": "str", "choices": ["auto", "systemd", "process"], "default": "auto"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    present = module.params["state"] == "present"
    supervisor = module.params["supervisor"]
    if supervisor == "auto":
        supervisor = "systemd" if has_systemd() else "process"
    try:
        bundle = bundle_from(module.params)
        if supervisor == "systemd" and not has_systemd():
            raise ParameterError("supervisor", supervisor, "systemd does not run on this host; use 'auto' or 'process'")
        if present and module.params["check_ports"]:
            ports.refuse_ports_in_use(bundle, supervisor)
    except (ParameterError, CommandError) as exc:
        module.fail_json(msg=str(exc))

    # With systemd, the watch is a unit that reads the desired state on the host.
    watched = present and bool(bundle.timeout)
    by_process = supervisor == "process"
    dry = module.check_mode
    _module.run(
        module,
        lambda kernel: reconcile.bundle(kernel, bundle, present),
        before=lambda: watch_process.stop_outdated(bundle, watched, dry=dry) if by_process else [],
        after=lambda: watch_process.ensure_running(bundle, dry=dry) if by_process and watched else [],
    )


if __name__ == "__main__":
    main()
