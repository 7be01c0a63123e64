# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The network of the members' own addresses: the internal network, or the LAN. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from .. import _params as p
from .request import Address, Request, RequestedMember
from .uplinks.uplink import Uplink

FIRST_MEMBER = 10  # member 1 has the internal network's address .11; .1 is the host's; those between are free

Interface = t.Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]
Network = t.Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Facts = t.Mapping[str, t.Any]
# Names of the parameters of each family.
PREFIX = {4: "", 6: "ipv6_"}
FIRST = {4: "first_member_address", 6: "first_member_ipv6_address"}


@dataclass(frozen=True)
class Family:
    """The network of one address family."""

    network: Network
    host: Address  # the host's own address
    gateway: Address | None  # the members' default gateway
    first: Address | None  # of member 1

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.network.version

    def interface(self, address: Address | str) -> str:
        """An address with the network's prefix length."""
        return f"{address}/{self.network.prefixlen}"


@dataclass(frozen=True)
class Lan:
    """The members' bridge and its families: IPv4, and IPv6 if used. The host itself as member has neither."""

    uplink: Uplink
    bridge: str
    families: tuple[Family, ...]
    mtu: int | None = None

    @property
    def has_ipv6(self) -> bool:
        """Whether members have IPv6 addresses."""
        return len(self.families) > 1

    def address_of(self, member: RequestedMember, family: Family, services: t.Collection[Address]) -> str:
        """A member's own address: the given one, or counted from the first. Raises ParameterError."""
        network, prefix = family.network, PREFIX[family.version]
        parameter = f"{member.where}.{prefix}address"
        given = member.addresses[family.version]
        if self.uplink.internal_network:
            if given:
                raise p.ParameterError(parameter, given, "uplink=routed derives it from the number; remove it")
            if FIRST_MEMBER + member.number >= network.num_addresses - 1:
                raise p.ParameterError(
                    f"{prefix}internal_network", str(network), f"too small for member number {member.number}"
                )
            return str(network.network_address + FIRST_MEMBER + member.number)
        if given:
            address = ipaddress.ip_address(p.address(parameter, given, version=family.version))
        elif family.first is None:
            raise p.ParameterError(
                FIRST[family.version], "", "uplink=bridged needs the LAN address of member 1, or each member's address"
            )
        else:
            parameter = FIRST[family.version]
            address = family.first + (member.number - 1)
        last = int(network.broadcast_address)
        usable = family.version == 6 or network.prefixlen > 30 or int(network[0]) < int(address) < last
        if address not in network or not usable or address in (family.host, family.gateway, *services):
            raise p.ParameterError(
                parameter,
                str(address),
                f"member number {member.number} needs a free address of {network} on {self.bridge}",
            )
        return str(address)


def lan(request: Request) -> Lan:
    """The members' network. Raises ParameterError."""
    versions = [4, 6] if request.has_ipv6 else [4]
    if request.uplink.host_is_member:
        return Lan(request.uplink, "", ())
    if request.uplink.internal_network:
        bridge = p.interface_name("name", f"br-{request.name}")
        return Lan(request.uplink, bridge, tuple(_internal(request, version) for version in versions))
    if not request.bridge:
        raise p.ParameterError("bridge", "", "uplink=bridged needs the bridge that the LAN is on")
    bridge = p.interface_name("bridge", request.bridge)
    mtu = (_fact(request.facts, bridge) or _fact(request.facts, request.interface)).get("mtu")
    return Lan(request.uplink, bridge, tuple(_on_lan(request, bridge, version) for version in versions), mtu)


def _internal(request: Request, version: int) -> Family:
    network = p.network(f"{PREFIX[version]}internal_network", request.internal_network[version], version=version)
    host = network.network_address + 1
    return Family(network, host, host, None)


def _on_lan(request: Request, bridge: str, version: int) -> Family:
    facts, nic = request.facts, request.interface
    first = _address(FIRST[version], request.first_member_address[version], version)
    # Until the NIC is its port, the bridge's future addresses are the NIC's, or those of a bridge that has the NIC.
    masters = [name for name in facts.get("interfaces", []) if nic in _fact(facts, name).get("interfaces", [])]
    names = (bridge, nic, *masters)
    here = [
        one for name in names for one in host_addresses(facts, name) if one.version == version and not one.is_link_local
    ]
    if not here and not request.leaving:
        raise p.ParameterError(
            "bridge", bridge, f"neither it nor the NIC has an IPv{version} address on this host; configure one first"
        )
    among = [one for one in here if first is None or first in one.network] or here
    own = among[0] if among else ipaddress.ip_interface("0.0.0.0/0" if version == 4 else "::/0")
    gateway = _address(f"{PREFIX[version]}gateway", request.gateway[version], version)
    default = facts.get(f"default_ipv{version}", {})
    if gateway is None and default.get("gateway") and default.get("interface") in names:
        gateway = ipaddress.ip_address(default["gateway"])
    return Family(own.network, own.ip, gateway, first)


def _address(parameter: str, value: str, version: int) -> Address | None:
    return ipaddress.ip_address(p.address(parameter, value, version=version)) if value else None


def host_networks(facts: Facts, ours: t.Collection[str]) -> dict[str, list[Interface]] | None:
    """Interface -> its addresses, without the interfaces C(ours). None if there are no facts of interfaces."""
    if "interfaces" not in facts:
        return None
    return {name: host_addresses(facts, name) for name in facts["interfaces"] if name not in ours}


def host_addresses(facts: Facts, name: str) -> list[Interface]:
    """An interface's addresses."""
    found = _fact(facts, name)
    items = [found.get("ipv4"), *found.get("ipv4_secondaries", [])]
    ipv4 = [ipaddress.ip_interface(f"{i['address']}/{i['netmask']}") for i in items if i and "netmask" in i]
    return ipv4 + [ipaddress.ip_interface(f"{i['address']}/{i['prefix']}") for i in found.get("ipv6", [])]


def _fact(facts: Facts, interface: str) -> Facts:
    return t.cast(Facts, facts.get(re.sub(r"[-:]", "_", interface), {}))
