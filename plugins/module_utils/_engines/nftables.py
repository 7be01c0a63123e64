# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables engine: a cluster -> tables on the host and in its members. Pure.

C(distribution: steer). The host looks the bucket up in a map and gives the frame the owner's MAC address, so the
internal bridge hands it to that member alone. Only addresses are matched and hashed, never ports: fragments have
none. Ports are filtered in the member, where packets are whole again.
"""

from __future__ import annotations

import typing as t

from ansible_collections.clustered.openvpn.plugins.module_utils import _ruleset
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import Cluster
from ansible_collections.clustered.openvpn.plugins.module_utils._ruleset import Chain, Rule, Table

OWNER = "owner"  # the map: bucket -> MAC address of the member that owns it
ICMP_ERRORS = "icmp type { destination-unreachable, time-exceeded, parameter-problem }"


def host_tables(cluster: Cluster, held: t.Mapping[int, str]) -> list[Table]:
    """What the host's namespace should hold. held: the elements that the map has now."""
    return [_steer(cluster, held), _untracked(cluster)]


def member_table(cluster: Cluster) -> Table:
    """What each member's namespace should hold: the services, errors about their flows, ping; nothing else answers."""
    to = f"ip daddr {cluster.address}"
    rules = [
        Rule(f"{to} {protocol} dport {{ {', '.join(map(str, ports))} }} accept", f"services on {protocol}")
        for protocol, ports in _ports(cluster).items()
    ]
    rules.append(Rule(f"{to} {ICMP_ERRORS} accept", "errors about flows of the services"))
    rules.append(Rule(f"{to} icmp type echo-request accept", "ping, answered by the owner of its bucket"))
    rules.append(Rule(f"{to} drop", "nobody answers for anything else"))
    chain = Chain("filter hook input priority filter", tuple(rules))
    return Table("ip", cluster.table, {"service": chain})


def claimed(cluster: Cluster, held: t.Mapping[int, str]) -> dict[int, str]:
    """Bucket -> MAC address, as it should be: what the map holds now, changed by the cluster's claims."""
    mine = {bucket: node.mac for node in cluster.nodes for bucket in node.local_nodes or ()}
    if cluster.claims == "exact":
        return mine
    if cluster.claims == "add":
        return {**held, **mine}
    if cluster.claims == "release":
        # Only from the node that is named: a bucket that has moved on is not taken from its new owner.
        return {bucket: mac for bucket, mac in held.items() if mine.get(bucket) != mac}
    return dict(held)  # keep


def held_by(listing: _ruleset.Listing) -> dict[int, str]:
    """Bucket -> MAC address, as the kernel holds it."""
    return {int(bucket): mac for bucket, mac in _ruleset.elements_of(listing, OWNER).items()}


def hash_in(listing: _ruleset.Listing) -> dict[str, t.Any] | None:
    """What the kernel hashes with: address, total_nodes, hash_init; read from the rules themselves."""
    for rule in _ruleset.rules_of(listing, "uplink"):
        jhash = next((found for found in _find(rule["expr"], "jhash") if _is_source(found.get("expr", {}))), None)
        if jhash:
            match = next(m["right"] for m in _find(rule["expr"], "match"))
            return {"address": match, "total_nodes": jhash["mod"], "hash_init": jhash.get("seed", 0)}
    return None


def _steer(cluster: Cluster, held: t.Mapping[int, str]) -> Table:
    to = f"ip daddr {cluster.address}"
    # The host's own traffic, and what it routes from elsewhere, reaches the bridge under a MAC of its own. A frame
    # that came through the uplink has its owner's MAC already and is not looked up again.
    routed = f"ether daddr {cluster.routed_mac} {to}"
    error = "an ICMP error about a flow goes to the member of its client"
    unknown = "an ICMP error about a flow of nobody's here"
    source = "the owner of the client's bucket"
    nobody = "a bucket without an owner"
    forward = f'fwd to "{cluster.bridge}"'
    chains = {
        "uplink": Chain(
            f'filter hook ingress device "{cluster.interface}" priority -500',
            (
                Rule("ether type { 8021q, 8021ad } accept", "another VLAN"),
                Rule(f"ip daddr != {cluster.address} accept", "not for the cluster"),
                Rule(
                    f"{to} {ICMP_ERRORS} {_to_owner(cluster, _EMBEDDED_DESTINATION)} {forward}", error, cluster.bridge
                ),
                Rule(f"{to} {ICMP_ERRORS} drop", unknown),
                Rule(f"{to} {_to_owner(cluster, 'ip saddr')} {forward}", source, cluster.bridge),
                Rule(f"{to} drop", nobody),
            ),
        ),
        "host": Chain(
            f'filter hook egress device "{cluster.bridge}" priority -500',
            (
                Rule(f"{routed} {ICMP_ERRORS} {_to_owner(cluster, _EMBEDDED_DESTINATION)} accept", error),
                Rule(f"{routed} {ICMP_ERRORS} drop", unknown),
                Rule(f"{routed} {_to_owner(cluster, 'ip saddr')} accept", source),
                Rule(f"{routed} drop", nobody),
            ),
        ),
    }
    # typeof numgen: a plain 32-bit integer. typeof jhash crashes nft 1.0.6 when listed.
    maps = {OWNER: "typeof numgen inc mod 65536 : ether daddr"}
    return Table("netdev", cluster.table, chains, maps, {OWNER: claimed(cluster, held)})


# The packet inside an ICMP error begins 8 bytes after the ICMP header; its destination address, 16 bytes on.
_EMBEDDED_DESTINATION = "@th,192,32"


def _to_owner(cluster: Cluster, key: str) -> str:
    total, seed = cluster.total_nodes, cluster.hash_init
    return f"ether daddr set jhash {key} mod {total} seed {seed:#x} offset 1 map @{OWNER}"


def _untracked(cluster: Cluster) -> Table:
    """The host sees only the way back of the clients' conversations: its connection tracking must not judge them."""
    rule = Rule(f"ip saddr {cluster.address} fib daddr type != local notrack", "one half of a conversation")
    return Table("ip", cluster.table, {"prerouting": Chain("filter hook prerouting priority raw", (rule,))})


def _ports(cluster: Cluster) -> dict[str, list[int]]:
    ports: dict[str, list[int]] = {}
    for service in sorted(cluster.services, key=lambda s: (s.protocol, s.port)):
        ports.setdefault(service.protocol, []).append(service.port)
    return ports


def _is_source(expression: t.Mapping[str, t.Any]) -> bool:
    return expression.get("payload", {}).get("field") == "saddr"


def _find(tree: t.Any, key: str) -> t.Iterator[t.Any]:
    """Every value under a key, anywhere in what nft listed."""
    if isinstance(tree, list):
        for branch in tree:
            yield from _find(branch, key)
    elif isinstance(tree, dict):
        for name, branch in tree.items():
            if name == key:
                yield branch
            yield from _find(branch, key)
