#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tunnel_bundle
short_description: One wide pipe from many tunnels, at one of its ends
version_added: 0.1.0
description:
  - Makes the tun devices of a bundle of OpenVPN tunnels, with their addresses, a routing table each, and an nftables
    table that deals packets for the other site out to the tunnels, one by one or flow by flow.
  - The devices are persistent. OpenVPN's processes, which M(clustered.openvpn.openvpn_instance) runs, attach to them,
    and addresses, routes and rules stay when a process ends. What belongs to a tunnel depends on its number alone, so
    that others may come and go without it.
  - Which tunnels are in the spread now is decided by a watch of the tunnels, not by this module. A new bundle begins
    with none.
  - Where systemd does not run, the module runs the watch as a process. Elsewhere that is the business of
    M(clustered.openvpn.cluster_service).
  - The role C(tunnel_bundle) makes the parameters, by the filter P(clustered.openvpn.bundle_layout#filter).
options:
  name:
    description: Name of the bundle, a small letter and up to nine of a-z, 0-9, - and _.
    type: str
    required: true
  netns:
    description: The network namespace that this end is in, which must exist. The host's own if left out.
    type: str
  tunnels:
    description: The tunnels. The list is exact, so devices of this bundle that are not on it are removed.
    type: list
    elements: dict
    required: true
    suboptions:
      number:
        description: Stands for the tunnel at both ends.
        type: int
        required: true
      device:
        description: Name of its device.
        type: str
        required: true
      port:
        description: The port of its OpenVPN process.
        type: int
        required: true
      mark:
        description: What its packets are marked with, and the number of its routing table. 256 or more.
        type: int
        required: true
      weight:
        description: Its share of the packets, beside the others' weights. V(0) drains it.
        type: int
        default: 1
      rate:
        description:
          - Mbit/s that it is given at most, in packets as they enter it. V(0) for no limit.
          - By a queueing discipline (C(tbf)). OpenVPN's own C(shaper) lets packets go early by up to a millisecond, so
            it limits nothing beyond some 10 Mbit/s.
        type: float
        default: 0
      addresses:
        description: Its addresses, a pair for IPv4, and perhaps one for IPv6.
        type: list
        elements: dict
        required: true
        suboptions:
          local:
            description: This end's.
            type: str
            required: true
          peer:
            description:
              - The other end's.
              - One of IPv6 has a host route over this tunnel. Somebody else's is refused as with O(networks).
            type: str
            required: true
  networks:
    description:
      - What is behind the other end, its own addresses in the bundle included.
      - A route to one of these that is not this bundle's, and has no metric, is refused before any change.
    type: list
    elements: str
    required: true
  addresses:
    description: This end's own addresses in the bundle, one of a family, whatever tunnel packets take. On the loopback.
    type: list
    elements: str
    default: []
  former_addresses:
    description: Own addresses that it had, to be taken away.
    type: list
    elements: str
    default: []
  device_type:
    description: V(tap) for tunnels that carry Ethernet frames, which costs 14 bytes a packet.
    type: str
    choices: [tun, tap]
    default: tun
  spread:
    description: V(per_packet) deals out packets one by one, V(per_flow) keeps those of a connection together.
    type: str
    choices: [per_packet, per_flow]
    default: per_packet
  snat:
    description:
      - What packets of this site have as source when they leave by a tunnel. V(none) leaves them alone.
      - V(common) gives all of them the own address in the bundle, V(tunnel) the address of the tunnel that a
        connection's first packet took. Either is right for each packet and whatever tunnel answers come by, since the
        other end sends answers to any of these over the whole bundle.
    type: str
    choices: [none, common, tunnel]
    default: none
  mtu:
    description: The devices' MTU, 1280 to 65535.
    type: int
    default: 1448
  queue:
    description: Packets that a device queues.
    type: int
    default: 1000
  user:
    description: Who may attach to the devices, which is whom OpenVPN runs as.
    type: str
    default: openvpn
  group:
    description: The same, as a group.
    type: str
    default: openvpn
  timeout:
    description:
      - Seconds after which a tunnel that nothing comes out of leaves the spread, 0.2 to 60.
      - V(0) watches nothing, and all tunnels are in the spread at all times.
    type: float
    default: 1.2
  probe_port:
    description: The UDP port, on the tunnels' own addresses, of the watch at both ends.
    type: int
    default: 11940
  reordering:
    description:
      - For connections of the host itself, how many segments may come late before one is taken for lost.
      - V(0) leaves it to C(net.ipv4.tcp_reordering).
    type: int
    default: 0
  congestion_control:
    description: For connections of the host itself, as in C(net.ipv4.tcp_congestion_control), which is the default.
    type: str
    default: ""
  rule_priority:
    description: Priority of the routing rules.
    type: int
    default: 10000
  check_ports:
    description: Whether ports of the tunnels that other processes listen on are refused, before any change.
    type: bool
    default: true
  supervisor:
    description: What keeps the watch. V(auto) is V(systemd) where systemd runs, V(process) elsewhere.
    type: str
    choices: [auto, systemd, process]
    default: auto
  state:
    description: V(absent) removes all of it, whatever O(tunnels) there are.
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
- name: This end of two tunnels
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
"""

RETURN = r"""
commands:
  description: The changes, as an administrator would type them. Empty when nothing was to do.
  type: list
  elements: str
  returned: success
  sample: ["ip tuntap add dev site-1 mode tun user openvpn group openvpn"]
made:
  description: Devices that were made. A process that was attached to an earlier one of the name must be started anew.
  type: list
  elements: str
  returned: success
  sample: [site-1]
live:
  description: Numbers of the tunnels that are in the spread now.
  type: list
  elements: int
  returned: success
  sample: [1, 2]
"""

import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _module
from ..module_utils._bundle import reconcile, watch_process
from ..module_utils._bundle.bundle import TUNNEL_OPTIONS, Bundle, bundle_from
from ..module_utils._kernel import steps
from ..module_utils._kernel.command import CommandError
from ..module_utils._kernel.kernel import Kernel
from ..module_utils._openvpn import ports
from ..module_utils._openvpn.config import Endpoint
from ..module_utils._openvpn.instance import MANAGEMENT_SOCKET, RUN, Instance, management_socket
from ..module_utils._openvpn.processes import command_line
from ..module_utils._openvpn.supervisor import has_systemd, run
from ..module_utils._params import ParameterError

ARGUMENT_SPEC: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "netns": {"type": "str"},
    "tunnels": {"type": "list", "elements": "dict", "required": True, "options": TUNNEL_OPTIONS},
    "networks": {"type": "list", "elements": "str", "required": True},
    "addresses": {"type": "list", "elements": "str", "default": []},
    "former_addresses": {"type": "list", "elements": "str", "default": []},
    "device_type": {"type": "str", "choices": ["tun", "tap"], "default": "tun"},
    "spread": {"type": "str", "choices": ["per_packet", "per_flow"], "default": "per_packet"},
    "snat": {"type": "str", "choices": ["none", "common", "tunnel"], "default": "none"},
    "mtu": {"type": "int", "default": 1448},
    "queue": {"type": "int", "default": 1000},
    "user": {"type": "str", "default": "openvpn"},
    "group": {"type": "str", "default": "openvpn"},
    "timeout": {"type": "float", "default": 1.2},
    "probe_port": {"type": "int", "default": 11940},
    "reordering": {"type": "int", "default": 0},
    "congestion_control": {"type": "str", "default": ""},
    "rule_priority": {"type": "int", "default": 10000},
    "check_ports": {"type": "bool", "default": True},
    "supervisor": {"type": "str", "choices": ["auto", "systemd", "process"], "default": "auto"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def own_processes(bundle: Bundle, by_process: bool) -> set[int]:
    """The bundle's processes that listen: its watch, and tunnels, be they about to move to another port or to go."""
    served = re.compile(rf"{RUN}/{re.escape(bundle.name)}-[0-9]+/{re.escape(MANAGEMENT_SOCKET)}")
    listening = {holder.pid for holder in ports.listeners(bundle.netns)}
    found = {pid for pid in listening if any(map(served.fullmatch, command_line(pid)))}
    if by_process:
        return {*found, watch_process.running(bundle.name).get("pid", 0)} - {0}
    shown = run(
        ["systemctl", "show", "--property=MainPID", "--value", f"clustered-openvpn-watch@{bundle.name}.service"]
    )
    return {*found, int(shown.strip() or 0)} - {0}


def refuse_taken_ports(bundle: Bundle, by_process: bool) -> None:
    """A port that another process listens on would be found out too late, by OpenVPN or the watch."""
    instances = [Instance(x.device, netns=bundle.netns, management=management_socket(x.device)) for x in bundle.tunnels]
    ours = own_processes(bundle, by_process)
    taken = ports.in_use([(i, Endpoint("udp", x.port)) for i, x in zip(instances, bundle.tunnels)], ours)
    for i, tunnel in enumerate(bundle.tunnels):
        if tunnel.device in taken:
            raise ParameterError(f"tunnels[{i}].port", tunnel.port, taken[tunnel.device])
    probes = [
        (i, Endpoint("udp", bundle.probe_port, x.probed.local))
        for i, x in zip(instances, bundle.tunnels)
        if bundle.timeout
    ]
    for why in ports.in_use(probes, ours).values():
        raise ParameterError("probe_port", bundle.probe_port, why)


def end_watch(module: AnsibleModule, bundle: Bundle, wanted: bool) -> list[str]:
    """Ends a watch that would put back what is changed now; what an administrator would be told."""
    there = watch_process.running(bundle.name)
    if not there or (wanted and there.get("digest") == watch_process.digest(bundle)):
        return []
    if not module.check_mode:
        watch_process.stop(bundle.name)
    return [f"kill {there.get('pid')}  # the watch of {bundle.name}"]


def begin_watch(module: AnsibleModule, bundle: Bundle) -> list[str]:
    """Has the watch run; what an administrator would be told."""
    if watch_process.running(bundle.name).get("digest") == watch_process.digest(bundle):
        return []
    if not module.check_mode:
        watch_process.start(bundle)
    return [f"clustered-openvpn watch {bundle.name} &"]


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    present = module.params["state"] == "present"
    supervisor = module.params["supervisor"]
    by_process = supervisor == "process" or (supervisor == "auto" and not has_systemd())
    try:
        bundle = bundle_from(module.params)
        if supervisor == "systemd" and not has_systemd():
            raise ParameterError("supervisor", supervisor, "systemd does not run on this host; use 'auto' or 'process'")
        if present and module.params["check_ports"]:
            refuse_taken_ports(bundle, by_process)
    except (ParameterError, CommandError) as exc:
        module.fail_json(msg=str(exc))

    def plan(kernel: Kernel) -> steps.Planned:
        return reconcile.bundle(kernel, bundle, present)

    # Where systemd runs, the watch is a unit, which follows the desired state on the host.
    wanted = present and bool(bundle.timeout)
    _module.run(
        module,
        plan,
        before=lambda: end_watch(module, bundle, wanted) if by_process else [],
        after=lambda: begin_watch(module, bundle) if by_process and wanted else [],
    )


if __name__ == "__main__":
    main()
