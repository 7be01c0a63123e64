# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claim of a service address: desired state + what the kernel holds -> a plan."""

from __future__ import annotations

import socket
from dataclasses import replace

from .._kernel.kernel import Kernel
from .._kernel.observed import View
from .._kernel.steps import Planned
from . import claim
from . import cluster as _cluster
from .engines import choice, nft_listing
from .uplinks import bridged, common, local


def clusterip(kernel: Kernel, cluster: _cluster.Cluster, present: bool) -> Planned:
    """The claim of a service address; the result says how many buckets it moves."""
    old, reason = claim.Old(), ""
    if present and cluster.engine != "nftables":
        host = kernel.abilities(choice.families_of(cluster))
        cluster, reason = choice.choose(cluster, host)
        old = replace(old, families=host.families)
    views = kernel.observe((node.netns for node in cluster.members), ("addresses",))
    heeding = [common.accept_ra(name) for _index, name in socket.if_nameindex()]
    sysctls = {"": [*common.host_sysctls(cluster), *heeding, *local.arp_ignore(cluster.interface)]}
    asked = [(cluster.interface, cluster.address)]
    views.update(kernel.observe([""], ("addresses", "routes", "neighbours", "fdb", "multicast"), sysctls, asked))
    listings = kernel.tables(claim.tables_of(cluster), views)
    if cluster.version == 4:
        places = [node.netns for node in claim.deciding(cluster)]
        old = replace(old, saved=kernel.saved(places, cluster.address))
    missing = common.missing(cluster, views) if present else []
    if present and cluster.uplink == "bridged":
        bridged.refuse(cluster, views[""])
    if present and cluster.uplink == "local":
        local.refuse(cluster, views[""])
    remembers = claim.before_in(cluster, listings)
    elsewhere = {} if present and remembers else _elsewhere(kernel, cluster)
    steps = claim.plan(cluster, present, views, listings, elsewhere, old)
    said = {"engine": cluster.engine, "engine_reason": reason or "as asked for"} if present else {}
    return Planned(steps, missing, {"moved": claim.moved(cluster, present, listings, old), **said})


def _elsewhere(kernel: Kernel, cluster: _cluster.Cluster) -> dict[str, str]:
    """The host's sysctls that its other clusters have changed, and what they were before."""
    prefix = _cluster.table_name("")
    tables = {t for f, t in kernel.list_tables() if f == "netdev" and t.startswith(prefix) and t != cluster.table}
    listings = kernel.tables([("", "netdev", table) for table in sorted(tables)], {"": View("", True)})
    return {key: value for listing in listings.values() for key, value in nft_listing.before_in(listing).items()}
