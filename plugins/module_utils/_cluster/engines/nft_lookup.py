# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of nftables that look a packet's bucket up. Pure."""

from __future__ import annotations

import typing as t

from ..._kernel.ruleset import Rule
from ..cluster import Cluster

_ERRORS = {
    4: "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    6: "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
}
# The packet that an ICMP error is about begins 8 bytes into it. It went from the service address to the client: its
# destination address, its transport protocol, and its destination and source port, in bits from the ICMP header on.
_ABOUT = {
    4: {"client": "@th,192,32", "protocol": "@th,136,8", "port": "@th,240,16", "service": "@th,224,16"},
    6: {"client": "@th,256,128", "protocol": "@th,112,8", "port": "@th,400,16", "service": "@th,384,16"},
}
_LAST_BIT = {"ip saddr": "@nh,127,1", _ABOUT[4]["client"]: "@th,223,1"}
_PROTOCOLS = {"tcp": 6, "udp": 17}


def _decided(cluster: Cluster, match: str, verdict: str, fwd: str | None = None) -> t.Iterator[Rule]:
    """The rules that look a packet's bucket up: errors by the client that they are about, all else by its source.

    C(verdict): what follows the bucket. A look-up that finds nothing does not match, hence the drops.
    """
    family, errors, about = _family(cluster), _ERRORS[cluster.version], _ABOUT[cluster.version]
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
    """What is hashed for an address: a condition, and an expression; several rules may be needed for all addresses.

    CLUSTERIP hashes the address as a number, nftables its bytes. nft turns the bytes round for shifts only, and these
    lose the last bit, so even and odd addresses have a rule each.
    """
    if cluster.hash_as != "clusterip":
        return [("", source)]
    last_bit, even = _LAST_BIT[source], f"(({source} >> 1) << 1)"
    return [(f" {last_bit} 0", even), (f" {last_bit} 1", f"({even} | 1)")]


def _hashed_with_ports(cluster: Cluster) -> list[str]:
    return [] if cluster.hashmode == "sourceip" else list(_ports(cluster))


def _with_destport(cluster: Cluster) -> bool:
    return cluster.hashmode == "sourceip-sourceport-destport"


def _family(cluster: Cluster) -> str:
    return "ip" if cluster.version == 4 else "ip6"


def _to(cluster: Cluster) -> str:
    return f"{_family(cluster)} daddr {cluster.address}"


def _ports(cluster: Cluster) -> dict[str, list[int]]:
    ports: dict[str, list[int]] = {}
    for service in sorted(cluster.services, key=lambda s: (s.protocol, s.port)):
        ports.setdefault(service.protocol, []).append(service.port)
    return ports
