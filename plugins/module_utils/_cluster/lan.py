# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the members' own addresses are of: the internal network, or the LAN itself. From variables and facts. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from .. import _params as p
from .cluster import ROUTED
from .uplinks.registry import uplink_named
from .uplinks.uplink import Uplink

FIRST_MEMBER = 10  # member 1 has the internal network's address .11; .1 is the host's; those between are free

Address = t.Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Interface = t.Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Wanted = t.Mapping[str, t.Any]
# Names of the parameters of each family.
PREFIX = {4: "", 6: "ipv6_"}
FIRST = {4: "first_member_address", 6: "first_member_ipv6_address"}


@dataclass(frozen=True)
class Family:
    """The addresses of one family there."""

    network: Network
    host: Address  # the host's own address
    gateway: Address | None  # the members' way out
    first: Address | None  # of member 1

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.network.version


@dataclass(frozen=True)
class Lan:
    """The bridge that the members are on, and its families: IPv4, and perhaps IPv6. None if the host is the member."""

    uplink: Uplink
    bridge: str
    families: tuple[Family, ...]
    mtu: int | None = None

    @property
    def has_ipv6(self) -> bool:
        """Whether members have IPv6 addresses."""
        return len(self.families) > 1

    def interface(self, address: Address, family: Family) -> str:
        """An address with the network's prefix length."""
        return f"{address}/{family.network.prefixlen}"

    def member_addresses(
        self, where: str, number: int, item: Wanted, services: t.Collection[Address]
    ) -> dict[str, str]:
        """A member's own addresses: C(address), C(ipv6_address)."""
        return {
            f"{PREFIX[family.version]}address": str(self._member_address(where, number, item, services, family))
            for family in self.families
        }

    def _member_address(
        self, where: str, number: int, item: Wanted, services: t.Collection[Address], family: Family
    ) -> Address:
        """As given, or counted from the first."""
        network, prefix = family.network, PREFIX[family.version]
        parameter = f"{where}.{prefix}address"
        given = item.get(f"{prefix}address")
        if self.uplink.internal_network:
            if given:
                raise p.ParameterError(parameter, given, "uplink=routed derives it from the number: leave it out")
            if FIRST_MEMBER + number >= network.num_addresses - 1:
                raise p.ParameterError(
                    f"{prefix}internal_network", str(network), f"too small for member number {number}"
                )
            return network.network_address + FIRST_MEMBER + number
        if given:
            address = ipaddress.ip_address(p.address(parameter, given, version=family.version))
        elif family.first is None:
            raise p.ParameterError(
                FIRST[family.version], "", "uplink=bridged needs the LAN address of member 1, or each member's address"
            )
        else:
            parameter = FIRST[family.version]
            address = family.first + (number - 1)
        last = int(network.broadcast_address)
        usable = family.version == 6 or network.prefixlen > 30 or int(network[0]) < int(address) < last
        if address not in network or not usable or address in (family.host, family.gateway, *services):
            raise p.ParameterError(
                parameter, str(address), f"member number {number} needs a free address of {network} on {self.bridge}"
            )
        return address


def lan(cluster: str, wanted: Wanted, versions: t.Iterable[int]) -> Lan:
    """The LAN, with these families. Raises ParameterError."""
    uplink = uplink_named(wanted.get("uplink", ROUTED))
    if uplink.host_is_member:
        return Lan(uplink, "", ())
    if uplink.internal_network:
        bridge = p.interface_name("name", f"br-{cluster}")
        return Lan(uplink, bridge, tuple(_internal(wanted, version) for version in versions))
    if not wanted.get("bridge"):
        raise p.ParameterError("bridge", "", "uplink=bridged needs the bridge that the LAN is on")
    bridge = p.interface_name("bridge", wanted["bridge"])
    facts = wanted.get("facts") or {}
    mtu = (_fact(facts, bridge) or _fact(facts, wanted["interface"])).get("mtu")
    return Lan(uplink, bridge, tuple(_on_lan(wanted, bridge, version) for version in versions), mtu)


def _internal(wanted: Wanted, version: int) -> Family:
    parameter = f"{PREFIX[version]}internal_network"
    network = p.network(parameter, wanted.get(parameter) or "", version=version)
    host = network.network_address + 1
    return Family(network, host, host, None)


def _on_lan(wanted: Wanted, bridge: str, version: int) -> Family:
    facts = wanted.get("facts") or {}
    first = _given(wanted, FIRST[version], version)
    # Until the NIC has become its port, the bridge's addresses are the NIC's, or a bridge's that it is still a port of.
    nic = wanted["interface"]
    masters = [name for name in facts.get("interfaces", []) if nic in _fact(facts, name).get("interfaces", [])]
    names = (bridge, nic, *masters)
    here = [
        one for name in names for one in host_addresses(facts, name) if one.version == version and not one.is_link_local
    ]
    if not here and not wanted.get("leaving"):
        raise p.ParameterError("bridge", bridge, f"neither it nor the NIC has an IPv{version} address on this host")
    among = [one for one in here if first is None or first in one.network] or here
    own = among[0] if among else ipaddress.ip_interface("0.0.0.0/0" if version == 4 else "::/0")
    gateway = _given(wanted, f"{PREFIX[version]}gateway", version)
    default = facts.get(f"default_ipv{version}", {})
    if gateway is None and default.get("gateway") and default.get("interface") in names:
        gateway = ipaddress.ip_address(default["gateway"])
    return Family(own.network, own.ip, gateway, first)


def _given(wanted: Wanted, parameter: str, version: int) -> Address | None:
    value = wanted.get(parameter)
    return ipaddress.ip_address(p.address(parameter, value, version=version)) if value else None


def host_networks(facts: Wanted, ours: t.Collection[str]) -> dict[str, list[Interface]] | None:
    """Interface -> its addresses, from facts; without those that are our own. None when nothing was gathered."""
    if "interfaces" not in facts:
        return None
    return {name: host_addresses(facts, name) for name in facts["interfaces"] if name not in ours}


def host_addresses(facts: Wanted, name: str) -> list[Interface]:
    """An interface's addresses, from facts."""
    found = _fact(facts, name)
    items = [found.get("ipv4"), *found.get("ipv4_secondaries", [])]
    ipv4 = [ipaddress.ip_interface(f"{i['address']}/{i['netmask']}") for i in items if i and "netmask" in i]
    return ipv4 + [ipaddress.ip_interface(f"{i['address']}/{i['prefix']}") for i in found.get("ipv6", [])]


def _fact(facts: Wanted, interface: str) -> Wanted:
    return t.cast(Wanted, facts.get(re.sub(r"[-:]", "_", interface), {}))
