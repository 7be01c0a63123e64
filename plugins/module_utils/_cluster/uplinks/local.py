# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(uplink: local): the host itself is the only member, and has the service address. Observed state -> steps. Pure.

IPv4: the kernel answers ARP for an address of the loopback, and does not use it as the source of the host's own
connections, whose answers might be delivered to other hosts. IPv6: neighbour discovery requires the address on the NIC,
where it is deprecated, and so not used as a source either.
"""

from __future__ import annotations

from ... import _params as p
from ..._kernel.observed import View
from ..._kernel.steps import Step, step
from ..._topology.sysctls import plan_sysctls
from ..cluster import Cluster
from .uplink import Uplink, ipv6_forwarding, link_of


class Local(Uplink):
    """The address on the host."""

    name = "local"
    host_is_member, members_on_lan = True, False
    family, families = "netdev", frozenset()

    def host_sysctls(self, cluster: Cluster) -> dict[str, str]:
        return ipv6_forwarding(cluster)

    def checked_sysctls(self, cluster: Cluster) -> list[str]:
        # Of the two arp_ignore values, the greater one applies.
        return [f"net/ipv4/conf/{name}/arp_ignore" for name in ("all", cluster.interface)]

    def refuse(self, cluster: Cluster, view: View) -> None:
        if cluster.version == 4:
            for key in self.checked_sysctls(cluster):
                if (value := view.sysctls.get(key, "0")) != "0":
                    remedy = f"{key} is {value}, so the kernel does not answer ARP for loopback addresses; set it to 0"
                    raise p.ParameterError("interface", cluster.interface, remedy)

    def plan_host(self, cluster: Cluster, view: View) -> list[Step]:
        steps = plan_sysctls("", self.host_sysctls(cluster), view)
        if not _is_present(cluster, view):
            op = "addr_add" if cluster.version == 4 else "addr_add_shared"
            steps.append(step(op, dev=_device(cluster), address=cluster.host_address))
        return steps

    def plan_no_host(self, cluster: Cluster, view: View) -> list[Step]:
        if not _is_present(cluster, view):
            return []
        return [step("addr_del", dev=_device(cluster), address=cluster.host_address)]


def _is_present(cluster: Cluster, view: View) -> bool:
    return cluster.host_address in link_of(view, _device(cluster)).addresses


def _device(cluster: Cluster) -> str:
    return "lo" if cluster.version == 4 else cluster.interface
