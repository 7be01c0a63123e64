# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(uplink: local): the host itself is the node, and what it runs serves the address. Observed state -> steps. Pure.

The kernel answers ARP for an address of the loopback by itself, and takes none as the source of the host's own
connections: so their answers do not come to an address whose packets other hosts may take. Neighbour discovery wants
the address on the NIC, where it is kept from being a source by being deprecated.
"""

from __future__ import annotations

from ... import _params as p
from ..._kernel.observed import Link, View
from ..._kernel.steps import Step, step
from ..._topology.sysctls import plan_sysctls
from ..cluster import Cluster
from . import common


def arp_ignore(interface: str) -> list[str]:
    """The sysctls that say which addresses ARP is answered for there; the greater one counts."""
    return [f"net/ipv4/conf/{name}/arp_ignore" for name in ("all", interface)]


def refuse(cluster: Cluster, view: View) -> None:
    """What cannot work on this host; raises ParameterError."""
    if cluster.version == 4:
        for key in arp_ignore(cluster.interface):
            if view.sysctls.get(key, "0") != "0":
                remedy = (
                    f"{key} is {view.sysctls[key]}, so ARP is not answered for an address of the loopback: set it to 0"
                )
                raise p.ParameterError("interface", cluster.interface, remedy)


def plan_host(cluster: Cluster, view: View) -> list[Step]:
    """The address, from which on the world sends packets here."""
    steps = plan_sysctls("", common.host_sysctls(cluster), view)
    return steps + ([] if _there(cluster, view) else [_address("add", cluster)])


def plan_no_host(cluster: Cluster, view: View) -> list[Step]:
    """The same, taken back."""
    return [_address("del", cluster)] if _there(cluster, view) else []


def _there(cluster: Cluster, view: View) -> bool:
    return cluster.host_address in view.links.get(_device(cluster), Link("", None)).addresses


def _device(cluster: Cluster) -> str:
    return "lo" if cluster.version == 4 else cluster.interface


def _address(verb: str, cluster: Cluster) -> Step:
    op = f"addr_{verb}" if cluster.version == 4 or verb == "del" else "addr_add_shared"
    return step(op, dev=_device(cluster), address=cluster.host_address)
