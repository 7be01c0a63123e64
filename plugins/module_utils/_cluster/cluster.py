# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster on one host: one service address, its members and their buckets; names and MAC addresses of it. Pure.

A member owns buckets: it answers the clients whose addresses hash to them. Most members are network namespaces; with
C(uplink: local) the host itself is the only one. The options of the C(clusterip) module keep the words of the kernel's
CLUSTERIP target: C(nodes) are members, C(local_nodes) buckets, C(total_nodes) is the number of buckets.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass

from .. import _params as p
from .._state import defaults
from . import hashing

TABLE_PREFIX = "clustered_openvpn_"  # of nftables tables and iptables chains
IPV6_SUFFIX = ".v6"  # of the names of an IPv6 address's tables
MAX_BUCKETS = 65536  # our own limit: the hash has 32 bits, but more buckets than this have no use
HOST = ""  # in place of a namespace or a MAC address: the host itself
ROUTED, STEER = defaults.UPLINK, defaults.DISTRIBUTION

Owners = t.Mapping[str, t.AbstractSet[int]]  # MAC address of a member -> its buckets


@dataclass(frozen=True)
class Service:
    """A service at the service address: a protocol (udp, tcp) and a port."""

    protocol: str
    port: int


@dataclass(frozen=True)
class Member:
    """An owner of buckets; C(buckets) is None where the user names none. The host itself has no C(netns) and C(mac)."""

    netns: str
    mac: str
    interface: str
    buckets: tuple[int, ...] | None


@dataclass(frozen=True)
class Cluster:
    """One service address. Fields that are not explained here are options of the C(clusterip) module."""

    name: str
    address: str
    interface: str
    bridge: str
    clustermac: str
    distribution: str
    hashmode: str
    hash_init: int
    total_nodes: int
    members: tuple[Member, ...]
    services: tuple[Service, ...]
    claims: str
    forward_ipv6: bool
    uplink: str = ROUTED
    shared: bool = False
    hash_as: str = hashing.DEFAULT
    engine: str = hashing.DEFAULT
    firewall: bool | None = None  # None: the host's iptables rules are not looked at

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.address).version

    @property
    def family(self) -> str:
        """The nftables family of the address: ip or ip6."""
        return "ip" if self.version == 4 else "ip6"

    @property
    def host_address(self) -> str:
        """The service address with the prefix length of a single host."""
        return f"{self.address}/{32 if self.version == 4 else 128}"

    @property
    def unicast_mac(self) -> str:
        """C(clustermac) with its group bit cleared.

        Frames carry it until their owner is looked up. No port of the bridge has it, so without our rules such a frame
        is dropped, where a multicast would reach every member.
        """
        first, rest = self.clustermac[:2], self.clustermac[2:]
        return f"{int(first, 16) & ~1:02x}{rest}"

    @property
    def namespaces(self) -> tuple[Member, ...]:
        """The members that are network namespaces."""
        return tuple(member for member in self.members if member.netns)

    @property
    def table(self) -> str:
        """The name of the cluster's nftables tables and iptables chains, in every namespace."""
        return table_name(self.name, self.version)


def table_name(cluster: str, version: int = 4) -> str:
    """The name of a cluster's nftables tables. Those of an IPv6 address end in C(.v6), which no cluster's name does."""
    return f"{TABLE_PREFIX}{cluster}{IPV6_SUFFIX if version == 6 else ''}"


def highest(mac: str) -> str:
    """The MAC address for our port of a bridge that others own: with the highest first byte, so that it is not chosen.

    A bridge without a MAC address of its own takes the lowest of its ports'. Another MAC address would make the host
    another neighbour to the LAN.
    """
    return f"fe{mac[2:]}"


def cluster_name(parameter: str, value: str) -> str:
    """The name, if it fits into interface names (br-NAME) and nft identifiers. Raises ParameterError."""
    if not re.match(r"^[a-z][a-z0-9_-]{0,9}\Z", value):
        raise p.ParameterError(
            parameter, value, "a cluster's name is a lower case letter and up to nine of a-z, 0-9, - and _"
        )
    return value


def default_clustermac(address: str) -> str:
    """03:00 (IPv4) or 03:06 (IPv6), followed by the last four bytes of the address.

    A locally administered multicast address: switches and bridges flood it, and IGMP and MLD snooping ignore it, since
    it is none of IP multicast's (01:00:5e, 33:33). The second byte keeps an IPv6 address that embeds an IPv4 address
    apart from that one.
    """
    ip = ipaddress.ip_address(address)
    return ("03:00:" if ip.version == 4 else "03:06:") + ":".join(f"{byte:02x}" for byte in ip.packed[-4:])


def hash_parameters(params: t.Mapping[str, t.Any]) -> tuple[int, int]:
    """The validated C(total_nodes) and C(hash_init). Raises ParameterError."""
    total, seed = params["total_nodes"], params["hash_init"]
    if not 1 <= total <= MAX_BUCKETS:
        raise p.ParameterError("total_nodes", total, f"the number of buckets is between 1 and {MAX_BUCKETS}")
    if not 0 <= seed <= 0xFFFFFFFF:
        raise p.ParameterError("hash_init", seed, "the seed has 32 bits: use a number from 0 to 4294967295")
    return total, seed


def claimed(cluster: Cluster, owners: Owners) -> dict[str, frozenset[int]]:
    """The desired owners: the present ones, changed by C(claims)."""
    named = {member.mac: frozenset(member.buckets or ()) for member in cluster.members}
    if cluster.claims == "exact":
        return named
    result = {mac: frozenset(buckets) for mac, buckets in owners.items()}
    if cluster.claims == "add":
        taken = frozenset().union(*named.values())
        result = {mac: buckets - taken for mac, buckets in result.items()}
        return {mac: result.get(mac, frozenset()) | named.get(mac, frozenset()) for mac in {*result, *named}}
    if cluster.claims == "release":
        # Only from the member that is named: a bucket that has moved on stays with its new owner.
        return {mac: buckets - named.get(mac, frozenset()) for mac, buckets in result.items()}
    return result  # keep
