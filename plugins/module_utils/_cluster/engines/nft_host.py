# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nftables rules of the host that bring packets to the members, whichever engine decides there. Pure.

C(distribution: steer). The host looks up the bucket in a map and sets the destination MAC address of its owner, so the
bridge forwards the frame to that member alone.

C(distribution: flood). The host sets C(clustermac), a multicast, so the bridge forwards the frame to all members, and
each of them decides by itself.

C(uplink: routed) does so at the NIC's ingress, C(uplink: bridged) in the prerouting of the LAN's bridge. The host's own
packets are handled at the egress to the bridge. With C(uplink: local) the host decides like a member of a flood,
because the LAN floods.

C(shared). Other hosts have the address, too: ARP and neighbour discovery for it announce C(clustermac).
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import replace

from ..._kernel.ruleset import Chain, Rule, Table
from ..cluster import STEER, Cluster, Owners, claimed
from ..uplinks.registry import uplink_of
from .nft_lookup import BUCKET, look_up, other_packets, to_address
from .nft_names import ANNOUNCE, OWNER, SYSCTLS, UPLINK
from .registry import engine_of, needs_announcement


def host_tables(
    cluster: Cluster,
    owners: Owners,
    sysctls: t.Mapping[str, str] | None = None,
    nic_mac: str | None = None,
    families: t.Collection[str] | None = None,
) -> list[Table]:
    """The tables of the host.

    owners: the present ones. sysctls: key -> value of the host's sysctls before the cluster changed them. nic_mac: the
    MAC address of the NIC. families: those that the kernel has; None for all.
    """
    uplink = uplink_of(cluster)
    if uplink.host_is_member:
        # The table of the family netdev comes first, as with the other uplinks.
        tables = engine_of(cluster).member_tables(cluster, cluster.members[0], owners)[::-1]
        tables = tables or [Table("netdev", cluster.table, {})]
    elif uplink.family == "bridge":
        tables = [_from_the_host(cluster, owners), _on_the_bridge(cluster, owners)]
    else:
        tables = [_steer(cluster, owners) if cluster.distribution == STEER else _flood(cluster), _untracked(cluster)]
    if needs_announcement(cluster):
        # The MAC address that is announced without our rules.
        announced = cluster.unicast_mac if uplink.family == "bridge" else nic_mac
        tables[0] = replace(tables[0], chains={**tables[0].chains, ANNOUNCE: _announce(cluster, announced)})
    tables = [table for table in tables if table.chains and (families is None or table.family in families)]
    if sysctls and tables:
        # The record ends with a reboot, as the changed values do.
        remarks = tuple(Rule("accept", f"{key}={value}") for key, value in sorted(sysctls.items()))
        tables[0] = replace(tables[0], chains={**tables[0].chains, SYSCTLS: Chain("", remarks)})
    return tables


def _steer(cluster: Cluster, owners: Owners) -> Table:
    verdict = f'map @{OWNER} fwd to "{cluster.bridge}"'
    rules = (*other_packets(cluster), *look_up(cluster, to_address(cluster), verdict, cluster.bridge))
    hook = f'filter hook ingress device "{cluster.interface}" priority -500'
    chains = {UPLINK: Chain(hook, rules), "host": _host_chain(cluster)}
    return _with_map(cluster, owners, "netdev", chains)


def _host_chain(cluster: Cluster) -> Chain:
    # The host's own packets, and those that it routes from elsewhere, reach the bridge with this MAC address. A frame
    # that came through the uplink has its owner's MAC address already and is not looked up again.
    routed = f"ether daddr {uplink_of(cluster).unresolved_mac(cluster)} {to_address(cluster)}"
    if cluster.distribution == STEER:
        rules = tuple(look_up(cluster, routed, f"map @{OWNER} accept"))
    else:
        rules = (Rule(f"{routed} ether daddr set {cluster.clustermac}", "for all members, who decide"),)
    return Chain(f'filter hook egress device "{cluster.bridge}" priority -500', rules)


def _with_map(cluster: Cluster, owners: Owners, family: str, chains: t.Mapping[str, Chain]) -> Table:
    """A table that has the map of owners, if the host steers."""
    if cluster.distribution != STEER:
        return Table(family, cluster.table, chains)
    owner = {bucket: mac for mac, buckets in claimed(cluster, owners).items() for bucket in buckets}
    maps = {OWNER: f"{BUCKET} : ether daddr"}
    return Table(family, cluster.table, chains, maps=maps, elements={OWNER: owner})


def _flood(cluster: Cluster) -> Table:
    text = f'{to_address(cluster)} ether daddr set {cluster.clustermac} fwd to "{cluster.bridge}"'
    rules = (*other_packets(cluster), Rule(text, "for all members, who decide", cluster.bridge))
    hook = f'filter hook ingress device "{cluster.interface}" priority -500'
    return Table("netdev", cluster.table, {UPLINK: Chain(hook, rules)})


def _from_the_host(cluster: Cluster, owners: Owners) -> Table:
    return _with_map(cluster, owners, "netdev", {"host": _host_chain(cluster)})


def _on_the_bridge(cluster: Cluster, owners: Owners) -> Table:
    """Packets for the address are recognised, on every port, by the MAC address that ARP announces."""
    if cluster.distribution == STEER:
        decided = tuple(look_up(cluster, to_address(cluster), f"map @{OWNER} accept"))
    else:
        text = f"{to_address(cluster)} ether daddr set {cluster.clustermac} accept"
        decided = (Rule(text, "for all members, who decide"),)
    macs = f"{{ {cluster.unicast_mac}, {cluster.clustermac} }}" if cluster.shared else cluster.unicast_mac
    other = Rule(f"ether daddr != {macs} accept", "not for the cluster")
    chains = {
        UPLINK: Chain("filter hook prerouting priority -300", (_refuse_members(cluster), other, *decided)),
        "leave": Chain("filter hook postrouting priority 0", tuple(_leaving(cluster))),
    }
    return _with_map(cluster, owners, "bridge", chains)


def _refuse_members(cluster: Cluster) -> Rule:
    """Only the bridge announces the address. A member that did would redirect the LAN's neighbour entries to itself."""
    ours = f"!= {{ {cluster.unicast_mac}, {cluster.clustermac} }} drop"
    sender = f"arp saddr ip {cluster.address} arp saddr ether"
    if cluster.version == 6:
        sender = f"ip6 saddr {cluster.address} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ether saddr"
    return Rule(f"{sender} {ours}", "no member says who has the address")


def _leaving(cluster: Cluster) -> t.Iterator[Rule]:
    """Frames on their way out to the LAN."""
    out = f'oifname "{cluster.interface}"'
    if cluster.distribution != STEER:
        yield Rule(f"{out} ether daddr {cluster.clustermac} drop", "flooded to the members, not to the LAN")
    if not cluster.shared:
        # Switches must see one MAC address, the one in ARP, whichever member answers: otherwise its entry in their
        # tables expires, and they flood. A shared address is behind many ports, and is flooded on purpose.
        yield Rule(f"{out} {cluster.family} saddr {cluster.address} ether saddr set {cluster.unicast_mac}", "one MAC")


def _announce(cluster: Cluster, announced: str | None) -> Chain:
    """Put C(clustermac) into the host's ARP or neighbour discovery packets about the address, answers and questions.

    announced: the MAC address that they have without these rules.
    """
    if cluster.version == 4:
        rules = [Rule(f"arp saddr ip {cluster.address} arp saddr ether set {cluster.clustermac}", "the cluster's MAC")]
    else:
        # The option with the MAC address follows the target. nft does not update the checksum for such a change, so a
        # reserved field (RFC 4861, 4.3 and 4.4) compensates for it.
        mac, target = cluster.clustermac.replace(":", ""), ipaddress.ip_address(cluster.address).packed.hex()
        reserved = _compensation(announced or cluster.clustermac, cluster.clustermac)
        change = f"@th,208,48 set 0x{mac} @th,48,16 set {reserved:#06x}"
        advert = f"icmpv6 type nd-neighbor-advert @th,64,128 0x{target} @th,192,16 0x0201"
        solicit = f"ip6 saddr {cluster.address} icmpv6 type nd-neighbor-solicit @th,192,16 0x0101"
        rules = [
            Rule(f"{advert} {change}", "the cluster's MAC"),
            Rule(f"{solicit} {change}", "the cluster's MAC, in questions"),
        ]
    return Chain(f'filter hook egress device "{cluster.interface}" priority -500', tuple(rules))


def _compensation(old: str, new: str) -> int:
    """The 16-bit word that keeps a checksum when the MAC address C(new) replaces C(old) (RFC 1624)."""
    words = [[int(mac.replace(":", "")[i : i + 4], 16) for i in (0, 4, 8)] for mac in (old, new)]
    return (sum(words[0]) - sum(words[1])) % 0xFFFF


def _untracked(cluster: Cluster) -> Table:
    """The host routes the members' answers only, so its connection tracking must not judge them."""
    text = f"{cluster.family} saddr {cluster.address} fib daddr type != local notrack"
    chain = Chain("filter hook prerouting priority raw", (Rule(text, "one half of a conversation"),))
    return Table(cluster.family, cluster.table, {"prerouting": chain})
