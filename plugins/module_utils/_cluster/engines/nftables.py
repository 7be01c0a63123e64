# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine nftables: a member looks up the bucket in a set of its own, at the ingress of its interface. Pure.

With C(distribution: steer) the host looks it up for all members: see C(nft_host.py). Members then only filter services.

With the hashmode sourceip rules match and hash addresses only, never ports: fragments have none. Ports are filtered in
the member's input hook, where packets are reassembled.
"""

from __future__ import annotations

from ... import _params as p
from ..._kernel.observed import Saved
from ..._kernel.ruleset import Chain, Listing, Rule, Table
from ..cluster import Cluster, Member, Owners, claimed
from ..uplinks.registry import uplink_of
from . import nft_listing
from .engine import Engine, Hashed
from .nft_lookup import BUCKET, DISCOVERY, ERRORS, look_up, other_packets, ports_of, to_address
from .nft_names import CLAIM, OWNED, UPLINK

_PING = {4: "icmp type echo-request", 6: "icmpv6 type echo-request"}


class Nftables(Engine):
    """Hooks of the families netdev and bridge."""

    name = hash_as = "nftables"
    elements = True
    probes_kernel = False  # nft itself names the family that the kernel does not have

    def limit(self, cluster: Cluster) -> p.ParameterError | None:
        return None

    def families(self, cluster: Cluster) -> set[str]:
        return {"netdev", cluster.family}

    def hash_in(self, table: str, listing: Listing, saved: Saved) -> Hashed | None:
        return nft_listing.hash_in(listing)

    def buckets_in(self, table: str, listing: Listing, saved: Saved) -> set[int]:
        return nft_listing.buckets_of_member(listing)

    def member_tables(self, cluster: Cluster, member: Member, owners: Owners) -> list[Table]:
        if uplink_of(cluster).host_is_member or cluster.distribution == "flood":
            return [_services(cluster), _claim(cluster, member, owners)]
        return [_services(cluster)]


def _claim(cluster: Cluster, member: Member, owners: Owners) -> Table:
    """The table of a member that decides by itself."""
    if uplink_of(cluster).host_is_member:
        name, others = UPLINK, other_packets(cluster)
    else:
        name, others = CLAIM, (Rule(f"ether daddr != {cluster.clustermac} accept", "not flooded"),)
    # TCP and forwarding refuse packets from multicast frames, hence pkttype.
    rules = (*others, *look_up(cluster, to_address(cluster), f"@{OWNED} meta pkttype set host accept"))
    chain = Chain(f'filter hook ingress device "{member.interface}" priority -500', rules)
    buckets = dict.fromkeys(claimed(cluster, owners).get(member.mac, ()), "")
    return Table("netdev", cluster.table, {name: chain}, sets={OWNED: BUCKET}, elements={OWNED: buckets})


def _services(cluster: Cluster) -> Table:
    """Accept the services, errors about their flows, and ping; drop the rest."""
    to = to_address(cluster)
    rules = [
        Rule(f"{to} {protocol} dport {{ {', '.join(map(str, ports))} }} accept", f"services on {protocol}")
        for protocol, ports in ports_of(cluster).items()
    ]
    rules.append(Rule(f"{to} {ERRORS[cluster.version]} accept", "errors about flows of the services"))
    rules.append(Rule(f"{to} {_PING[cluster.version]} accept", "ping, answered by the owner of its bucket"))
    if cluster.version == 6:
        # IPv6 is reassembled after this hook, IPv4 before it. A packet without its first fragment never is.
        rules.append(Rule(f"{to} frag frag-off != 0 accept", "fragments, of which the first was judged"))
        if uplink_of(cluster).host_is_member:
            rules.append(Rule(f"{to} {DISCOVERY} accept", "who has it, and who its neighbours are"))
    # Packets on the loopback pass: health checks of a member connect to the service address.
    rules.append(Rule(f'iifname != "lo" {to} drop', "nobody answers for anything else"))
    chain = Chain("filter hook input priority filter", tuple(rules))
    return Table(cluster.family, cluster.table, {"service": chain})
