# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables rules that look up the bucket of a packet. Pure."""

from __future__ import annotations

import typing as t

from ..._kernel.ruleset import Rule
from ..cluster import Cluster
from ..hashing import HASHES

# The type of a bucket. typeof numgen: a plain 32-bit integer. typeof jhash crashes nft 1.0.6 when listed.
BUCKET = "typeof numgen inc mod 65536"

DISCOVERY = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
ERRORS = {
    4: "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    6: "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
}
# An ICMP error embeds the packet that it is about, 8 bytes after its header. That packet went from the service address
# to the client. Its destination address, transport protocol, destination and source port, in bits from the ICMP header:
_ABOUT = {
    4: {"client": "@th,192,32", "protocol": "@th,136,8", "port": "@th,240,16", "service": "@th,224,16"},
    6: {"client": "@th,256,128", "protocol": "@th,112,8", "port": "@th,400,16", "service": "@th,384,16"},
}
_LAST_BIT = {"ip saddr": "@nh,127,1", _ABOUT[4]["client"]: "@th,223,1"}
_PROTOCOLS = {"tcp": 6, "udp": 17}


def look_up(cluster: Cluster, match: str, verdict: str, fwd: str | None = None) -> t.Iterator[Rule]:
    """Rules that look up the bucket of packets: of an ICMP error by the client that it is about, else by the source.

    match: the packets. verdict: the text after the bucket. fwd: the interface to which the verdict forwards. A look-up
    without a result does not match, hence the drops.
    """
    family, errors, about = cluster.family, ERRORS[cluster.version], _ABOUT[cluster.version]
    action = "ether daddr set " if verdict.startswith("map ") else ""

    def looked_up(condition: str, source: str, ports: tuple[str, ...], purpose: str) -> t.Iterator[Rule]:
        total, seed = cluster.total_nodes, cluster.hash_init
        for last_bit, number in _as_hashed(cluster, source):
            key = " . ".join((number, *ports))
            text = f"{condition}{last_bit} {action}jhash {key} mod {total} seed {seed:#x} offset 1 {verdict}"
            yield Rule(text, purpose, fwd)

    why = "an ICMP error about a flow goes to the member of its client"
    for protocol in _hashed_with_ports(cluster):
        ports = (about["port"], *([about["service"]] if _with_destport(cluster) else []))
        of = f"{about['protocol']} {_PROTOCOLS[protocol]}"
        yield from looked_up(f"{match} {errors} {of}", about["client"], ports, f"{why}, {protocol}")
    yield from looked_up(f"{match} {errors}", about["client"], (), why)
    yield Rule(f"{match} {errors} drop", "an ICMP error about a flow of nobody's here")
    for protocol in _hashed_with_ports(cluster):
        ports = (f"{protocol} sport", *([f"{protocol} dport"] if _with_destport(cluster) else []))
        yield from looked_up(match, f"{family} saddr", ports, f"the owner of the client's bucket, {protocol}")
        yield Rule(f"{match} meta l4proto {protocol} drop", f"a bucket without an owner, {protocol}")
    yield from looked_up(match, f"{family} saddr", (), "the owner of the client's bucket")
    yield Rule(f"{match} drop", "a bucket without an owner")


def _as_hashed(cluster: Cluster, source: str) -> list[tuple[str, str]]:
    """How to hash an address: pairs of a condition and an expression, a rule for each.

    To hash the address as a number, its bytes must be reversed. nft does that for shifts only, which lose the last bit,
    so even and odd addresses have a rule each.
    """
    if not HASHES[cluster.hash_as].address_as_number:
        return [("", source)]
    last_bit, even = _LAST_BIT[source], f"(({source} >> 1) << 1)"
    return [(f" {last_bit} 0", even), (f" {last_bit} 1", f"({even} | 1)")]


def _hashed_with_ports(cluster: Cluster) -> list[str]:
    return [] if cluster.hashmode == "sourceip" else list(ports_of(cluster))


def _with_destport(cluster: Cluster) -> bool:
    return cluster.hashmode == "sourceip-sourceport-destport"


def to_address(cluster: Cluster) -> str:
    """The match of packets to the service address."""
    return f"{cluster.family} daddr {cluster.address}"


def ports_of(cluster: Cluster) -> dict[str, list[int]]:
    """Protocol -> the ports of its services."""
    ports: dict[str, list[int]] = {}
    for service in sorted(cluster.services, key=lambda s: (s.protocol, s.port)):
        ports.setdefault(service.protocol, []).append(service.port)
    return ports


def other_packets(cluster: Cluster) -> tuple[Rule, ...]:
    """Accept packets at the NIC that are not for the cluster."""
    rules = (
        Rule("ether type { 8021q, 8021ad } accept", "another VLAN"),
        Rule(f"{cluster.family} daddr != {cluster.address} accept", "not for the cluster"),
    )
    # Neighbours that check whether the address is still reachable send a unicast to the address itself.
    return rules if cluster.version == 4 else (*rules, Rule(f"{DISCOVERY} accept", "the host itself says who has it"))
