# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about the clusters of a host, read from the rules in the kernel, for the C(clusterip_info) module."""

from __future__ import annotations

import typing as t

from .._kernel import iptables_rules
from .._kernel.kernel import Kernel
from .._kernel.observed import View
from . import hashing
from .cluster import HOST, STEER, TABLE_PREFIX, Owners
from .engines import nft_listing
from .engines.engine import Hashed
from .engines.registry import ENGINES
from .uplinks.registry import UPLINKS

_NO_HASH: Hashed = {"address": None, "total_nodes": 0, "hash_init": None, "hash_as": None}


def names(kernel: Kernel) -> list[str]:
    """The names of the host's clusters, with the suffix of those that have an IPv6 address."""
    tables = [table for family, table in kernel.list_tables() if family in ("netdev", "bridge")]
    for lines in kernel.saved([HOST])[HOST].lines.values():
        tables += iptables_rules.chains(lines)
    return sorted({table[len(TABLE_PREFIX) :] for table in tables if table.startswith(TABLE_PREFIX)})


def cluster_facts(kernel: Kernel, name: str, namespaces: t.Sequence[str]) -> dict[str, t.Any]:
    """The facts of a cluster, as C(clusterip_info) returns them; without hash and address if its rules are damaged.

    namespaces: all named network namespaces of the host, where its members may be.
    """
    table = TABLE_PREFIX + name
    found = kernel.tables([(HOST, family, table) for family in ("bridge", "netdev")], {HOST: View(HOST, True)})
    family = "netdev" if found[HOST, "bridge", table] is None else "bridge"
    host = found[HOST, family, table]
    engine, distribution = hashing.DEFAULT, STEER
    hashed, owners = nft_listing.hash_in(host), t.cast(Owners, nft_listing.owners_on_host(host))
    if not hashed:
        engine, hashed, owners = _decided_by(kernel, table, [HOST])
    if not hashed:
        distribution = "flood"
        engine, hashed, owners = _decided_by(kernel, table, namespaces)
    host_is_member = nft_listing.is_of_member(host) or HOST in owners
    uplink = next(
        uplink.name
        for uplink in UPLINKS.values()
        if uplink.host_is_member == host_is_member and (host_is_member or uplink.family == family)
    )
    hashed = hashed or _NO_HASH
    owned = frozenset().union(*owners.values())
    return {
        "engine": engine,
        "uplink": uplink,
        "distribution": distribution,
        **hashed,
        "owners": {mac or "local": sorted(buckets) for mac, buckets in sorted(owners.items())},
        "unowned": [bucket for bucket in range(1, hashed["total_nodes"] + 1) if bucket not in owned],
    }


def _decided_by(kernel: Kernel, table: str, netnses: t.Sequence[str]) -> tuple[str, Hashed | None, Owners]:
    """Engine, hash and owners, if each of these namespaces decides by itself."""
    views = kernel.observe(netnses, ())
    listings = kernel.tables([(netns, "netdev", table) for netns in views], views)
    saved = kernel.saved(views)
    for engine in ENGINES.values():
        hashes = {
            netns: hashed
            for netns in views
            if (hashed := engine.hash_in(table, listings[netns, "netdev", table], saved[netns]))
        }
        if hashes:
            hashed = next(iter(hashes.values()))
            # CLUSTERIP's node numbers are listed by address.
            saved = kernel.saved(hashes, hashed["address"])
            owners = {
                _mac_of(views[netns]): engine.buckets_in(table, listings[netns, "netdev", table], saved[netns])
                for netns in hashes
            }
            return engine.name, hashed, owners
    return hashing.DEFAULT, None, {}


def _mac_of(view: View) -> str:
    """The MAC address of a member, by its namespace."""
    if view.netns == HOST:
        return HOST
    return next(link.mac or "" for link in view.links.values() if link.kind == "veth")
