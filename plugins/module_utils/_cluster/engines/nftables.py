# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The nftables engine: a cluster -> tables on the host and in its members. Pure.

C(distribution: steer). The host looks the bucket up in a map and gives the frame the owner's MAC address, so the
internal bridge hands it to that member alone.

C(distribution: flood). The host gives the frame the cluster's multicast MAC address, so the bridge hands it to all
members, and each looks the bucket up in a set of its own, before anything else looks at the packet.

C(uplink: routed) does this where packets come in, at the NIC's ingress; C(uplink: bridged) on the way of every frame
through the LAN's bridge. What the host itself sends is looked up where it leaves for the bridge.

C(uplink: local). The host itself is the node, and decides as a member of a flood does, for the LAN floods.

C(shared). Other hosts have the address, too: whoever asks for its MAC address is told that of the cluster, a multicast.

Both make the same decision. With hashmode sourceip only addresses are matched and hashed, never ports: fragments have
none. Ports are filtered in the member's input, where packets are whole again.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import replace

from ..._kernel.ruleset import Chain, Rule, Table
from ..cluster import Cluster, Node
from .nft_lookup import _ERRORS, _decided, _family, _ports, _to

OWNER = "owner"  # steer: the host's map, bucket -> MAC address of the member that owns it
OWNED = "owned"  # flood, local: a node's own set of its buckets
UPLINK, CLAIM = "uplink", "claim"  # the chains that hash
SAID = "said"  # the chain that tells the LAN the cluster's MAC address
LOCAL = ""  # stands for the MAC address of a node that is the host itself
BEFORE = "before"  # the chain whose remarks say what the host's sysctls were

# Who holds what: MAC address of a member -> its buckets.
Held = t.Mapping[str, t.AbstractSet[int]]

# typeof numgen: a plain 32-bit integer. typeof jhash crashes nft 1.0.6 when listed.
_BUCKET = "typeof numgen inc mod 65536"

_DISCOVERY = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
_PING = {4: "icmp type echo-request", 6: "icmpv6 type echo-request"}


def host_tables(
    cluster: Cluster,
    held: Held,
    before: t.Mapping[str, str] | None = None,
    nic_mac: str | None = None,
    families: t.Collection[str] | None = None,
) -> list[Table]:
    """What the host's namespace should hold. With another engine, that is what brings packets to those who decide.

    held: who owns what now; before: its sysctls, before they were changed; nic_mac: the NIC's own MAC address;
    families: those that its kernel knows, all if not given.
    """
    if cluster.uplink == "bridged":
        tables = [_from_the_host(cluster, held), _on_the_bridge(cluster, held)]
    elif cluster.uplink == "local":
        tables = [_claim(cluster, held, LOCAL, cluster.interface), _services(cluster)]
        if cluster.engine != "nftables":
            tables = [Table("netdev", cluster.table, {})]
    else:
        tables = [_steer(cluster, held) if cluster.distribution == "steer" else _flood(cluster), _untracked(cluster)]
    if cluster.shared and not (cluster.engine == "clusterip" and cluster.uplink == "local"):  # which says it by itself
        told = cluster.routed_mac if cluster.uplink == "bridged" else nic_mac
        tables[0] = replace(tables[0], chains={**tables[0].chains, SAID: _said(cluster, told)})
    tables = [table for table in tables if table.chains and (families is None or table.family in families)]
    if before and tables:
        # They live as long as the change itself: until a reboot.
        remarks = tuple(Rule("accept", f"{key}={value}") for key, value in sorted(before.items()))
        tables[0] = replace(tables[0], chains={**tables[0].chains, BEFORE: Chain("", remarks)})
    return tables


def member_tables(cluster: Cluster, node: Node, held: Held) -> list[Table]:
    """What a member's namespace should hold."""
    if cluster.engine != "nftables":
        return []
    return [
        _services(cluster),
        *([_claim(cluster, held, node.mac, node.interface)] if cluster.distribution == "flood" else []),
    ]


def claimed(cluster: Cluster, held: Held) -> dict[str, frozenset[int]]:
    """Who should own what: as it is now, changed by the cluster's claims."""
    mine = {node.mac: frozenset(node.local_nodes or ()) for node in cluster.nodes}
    if cluster.claims == "exact":
        return mine
    result = {mac: frozenset(buckets) for mac, buckets in held.items()}
    if cluster.claims == "add":
        taken = frozenset().union(*mine.values())
        result = {mac: buckets - taken for mac, buckets in result.items()}
        return {mac: result.get(mac, frozenset()) | mine.get(mac, frozenset()) for mac in {*result, *mine}}
    if cluster.claims == "release":
        # Only from the node that is named: a bucket that has moved on is not taken from its new owner.
        return {mac: buckets - mine.get(mac, frozenset()) for mac, buckets in result.items()}
    return result  # keep


def deciding_family(cluster: Cluster) -> str:
    """The family of the host's table that has the chain C(uplink)."""
    return "bridge" if cluster.uplink == "bridged" else "netdev"


def _steer(cluster: Cluster, held: Held) -> Table:
    forward = f'fwd to "{cluster.bridge}"'
    chains = {
        UPLINK: Chain(
            f'filter hook ingress device "{cluster.interface}" priority -500',
            (
                *_not_ours(cluster),
                *_decided(cluster, _to(cluster), f"map @{OWNER} {forward}", cluster.bridge),
            ),
        ),
        "host": _host_chain(cluster),
    }
    return _with_owners(cluster, held, "netdev", chains)


def _host_chain(cluster: Cluster) -> Chain:
    # The host's own traffic, and what it routes from elsewhere, reaches the bridge under a MAC of its own. A frame
    # that came through the uplink has its owner's MAC already and is not looked up again.
    routed = f"ether daddr {cluster.routed_mac} {_to(cluster)}"
    if cluster.distribution == "steer":
        rules = tuple(_decided(cluster, routed, f"map @{OWNER} accept"))
    else:
        rules = (Rule(f"{routed} ether daddr set {cluster.clustermac}", "for all members, who decide"),)
    return Chain(f'filter hook egress device "{cluster.bridge}" priority -500', rules)


def _with_owners(cluster: Cluster, held: Held, family: str, chains: t.Mapping[str, Chain]) -> Table:
    """When steering, a table has the map of owners."""
    if cluster.distribution != "steer":
        return Table(family, cluster.table, chains)
    owner = {bucket: mac for mac, buckets in claimed(cluster, held).items() for bucket in buckets}
    maps = {OWNER: f"{_BUCKET} : ether daddr"}
    return Table(family, cluster.table, chains, maps=maps, elements={OWNER: owner})


def _flood(cluster: Cluster) -> Table:
    text = f'{_to(cluster)} ether daddr set {cluster.clustermac} fwd to "{cluster.bridge}"'
    rules = (*_not_ours(cluster), Rule(text, "for all members, who decide", cluster.bridge))
    hook = f'filter hook ingress device "{cluster.interface}" priority -500'
    return Table("netdev", cluster.table, {UPLINK: Chain(hook, rules)})


def _from_the_host(cluster: Cluster, held: Held) -> Table:
    return _with_owners(cluster, held, "netdev", {"host": _host_chain(cluster)})


def _on_the_bridge(cluster: Cluster, held: Held) -> Table:
    """C(uplink: bridged). What is for the address is known by the MAC that ARP has told, on every port."""
    if cluster.distribution == "steer":
        decided = tuple(_decided(cluster, _to(cluster), f"map @{OWNER} accept"))
    else:
        text = f"{_to(cluster)} ether daddr set {cluster.clustermac} accept"
        decided = (Rule(text, "for all members, who decide"),)
    macs = f"{{ {cluster.routed_mac}, {cluster.clustermac} }}" if cluster.shared else cluster.routed_mac
    other = Rule(f"ether daddr != {macs} accept", "not for the cluster")
    chains = {
        UPLINK: Chain("filter hook prerouting priority -300", (_unsaid(cluster), other, *decided)),
        "leave": Chain("filter hook postrouting priority 0", tuple(_leaving(cluster))),
    }
    return _with_owners(cluster, held, "bridge", chains)


def _unsaid(cluster: Cluster) -> Rule:
    """The bridge alone says who has the address. A member that did would turn the LAN's neighbour entries to itself."""
    ours = f"!= {{ {cluster.routed_mac}, {cluster.clustermac} }} drop"
    said = f"arp saddr ip {cluster.address} arp saddr ether"
    if cluster.version == 6:
        said = f"ip6 saddr {cluster.address} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ether saddr"
    return Rule(f"{said} {ours}", "no member says who has the address")


def _leaving(cluster: Cluster) -> t.Iterator[Rule]:
    """Frames on their way out to the LAN."""
    out = f'oifname "{cluster.interface}"'
    if cluster.distribution == "flood":
        yield Rule(f"{out} ether daddr {cluster.clustermac} drop", "flooded to the members, not to the LAN")
    if not cluster.shared:
        # Switches see the address behind one port and one MAC, that of ARP, whichever member answers; or they would
        # forget where it is, and flood. One that is shared is behind many ports, and to be flooded.
        yield Rule(f"{out} {_family(cluster)} saddr {cluster.address} ether saddr set {cluster.routed_mac}", "one MAC")


def _claim(cluster: Cluster, held: Held, mac: str, interface: str) -> Table:
    """Of a node that decides for itself: a member, or the host."""
    other = Rule(f"ether daddr != {cluster.clustermac} accept", "not flooded")
    rules = (
        *(_not_ours(cluster) if cluster.uplink == "local" else (other,)),
        # TCP and forwarding refuse what came as a multicast, hence pkttype.
        *_decided(cluster, _to(cluster), f"@{OWNED} meta pkttype set host accept"),
    )
    name = UPLINK if cluster.uplink == "local" else CLAIM
    chain = Chain(f'filter hook ingress device "{interface}" priority -500', rules)
    mine = dict.fromkeys(claimed(cluster, held).get(mac, ()), "")
    return Table("netdev", cluster.table, {name: chain}, sets={OWNED: _BUCKET}, elements={OWNED: mine})


def _said(cluster: Cluster, told: str | None) -> Chain:
    """What leaves the NIC and says who has the address, in answers and in questions: it has the cluster's MAC address.

    C(told): the MAC address that is said without these rules.
    """
    if cluster.version == 4:
        rules = [Rule(f"arp saddr ip {cluster.address} arp saddr ether set {cluster.clustermac}", "the cluster's MAC")]
    else:
        # The option with the MAC address follows the target. nft leaves the checksum of such a change alone, so a field
        # that nobody reads (RFC 4861, 4.3 and 4.4: reserved) makes up for it.
        mac, target = cluster.clustermac.replace(":", ""), ipaddress.ip_address(cluster.address).packed.hex()
        spare = _difference(told or cluster.clustermac, cluster.clustermac)
        change = f"@th,208,48 set 0x{mac} @th,48,16 set {spare:#06x}"
        rules = [
            Rule(
                f"icmpv6 type nd-neighbor-advert @th,64,128 0x{target} @th,192,16 0x0201 {change}", "the cluster's MAC"
            ),
            Rule(
                f"ip6 saddr {cluster.address} icmpv6 type nd-neighbor-solicit @th,192,16 0x0101 {change}",
                "the cluster's MAC, in questions",
            ),
        ]
    return Chain(f'filter hook egress device "{cluster.interface}" priority -500', tuple(rules))


def _difference(old: str, new: str) -> int:
    """What must be added to words of 16 bits, in one's complement, when C(new) takes the place of C(old) (RFC 1624)."""
    words = [[int(mac.replace(":", "")[i : i + 4], 16) for i in (0, 4, 8)] for mac in (old, new)]
    return (sum(words[0]) - sum(words[1])) % 0xFFFF


def _services(cluster: Cluster) -> Table:
    """The services, errors about their flows, and ping; nothing else answers."""
    rules = [
        Rule(f"{_to(cluster)} {protocol} dport {{ {', '.join(map(str, ports))} }} accept", f"services on {protocol}")
        for protocol, ports in _ports(cluster).items()
    ]
    rules.append(Rule(f"{_to(cluster)} {_ERRORS[cluster.version]} accept", "errors about flows of the services"))
    rules.append(Rule(f"{_to(cluster)} {_PING[cluster.version]} accept", "ping, answered by the owner of its bucket"))
    if cluster.version == 6:
        # IPv6 is put together after this hook, IPv4 before it. Without its first fragment a packet never is.
        rules.append(Rule(f"{_to(cluster)} frag frag-off != 0 accept", "fragments, of which the first was judged"))
        if cluster.uplink == "local":
            rules.append(Rule(f"{_to(cluster)} {_DISCOVERY} accept", "who has it, and who its neighbours are"))
    # But what a member says to itself: who asks whether a service is well asks it at its address.
    rules.append(Rule(f'iifname != "lo" {_to(cluster)} drop', "nobody answers for anything else"))
    chain = Chain("filter hook input priority filter", tuple(rules))
    return Table(_family(cluster), cluster.table, {"service": chain})


def _untracked(cluster: Cluster) -> Table:
    """The host sees only the way back of the clients' conversations: its connection tracking must not judge them."""
    text = f"{_family(cluster)} saddr {cluster.address} fib daddr type != local notrack"
    chain = Chain("filter hook prerouting priority raw", (Rule(text, "one half of a conversation"),))
    return Table(_family(cluster), cluster.table, {"prerouting": chain})


def _not_ours(cluster: Cluster) -> tuple[Rule, ...]:
    rules = (
        Rule("ether type { 8021q, 8021ad } accept", "another VLAN"),
        Rule(f"{_family(cluster)} daddr != {cluster.address} accept", "not for the cluster"),
    )
    # A neighbour that is asked again whether it is still there is asked at its own address.
    return rules if cluster.version == 4 else (*rules, Rule(f"{_DISCOVERY} accept", "the host itself says who has it"))
