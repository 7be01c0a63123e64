# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Observe the kernel, and plan the claim of a service address."""

from __future__ import annotations

import socket
from dataclasses import replace

from .._kernel.kernel import Kernel
from .._kernel.observed import View
from .._kernel.steps import Planned
from . import claim, forward_rules, prerequisites
from .cluster import TABLE_PREFIX, Cluster
from .engines import choice, nft_listing
from .engines.engine import IptablesState
from .engines.registry import AUTO
from .hashing import DEFAULT
from .uplinks.registry import uplink_of


def clusterip(kernel: Kernel, cluster: Cluster, present: bool) -> Planned:
    """The plan for a claim; its result has C(moved), and for a present one C(engine) and C(engine_reason)."""
    state, reason = IptablesState(), "as asked for"
    if present and choice.probes_kernel(cluster):
        host = kernel.abilities(choice.families_of(cluster))
        cluster, reason = choice.choose(cluster, host)
        state = replace(state, families=host.families)
    elif cluster.engine == AUTO:
        cluster = replace(cluster, engine=DEFAULT)  # a removal is the same for all engines
    uplink = uplink_of(cluster)
    views = kernel.observe((member.netns for member in cluster.namespaces), ("addresses",))
    accept_ra = [prerequisites.accept_ra(name) for _index, name in socket.if_nameindex()]
    sysctls = {"": [*uplink.host_sysctls(cluster), *accept_ra, *uplink.checked_sysctls(cluster)]}
    proxies = [(cluster.interface, cluster.address)]
    views.update(kernel.observe([""], ("addresses", "routes", "neighbours", "fdb", "multicast"), sysctls, proxies))
    listings = kernel.tables(claim.tables_of(cluster), views)
    on_host = forward_rules.looked_at(cluster, present)
    if cluster.version == 4:
        netnses = [*(member.netns for member in cluster.members), *([""] if on_host else [])]
        state = replace(state, saved=kernel.saved(netnses, cluster.address))
    missing = prerequisites.missing(cluster, views) if present else []
    if present:
        uplink.refuse(cluster, views[""])
    recorded = claim.recorded_sysctls(cluster, listings)
    changed_by_others = {} if present and recorded else _changed_by_others(kernel, cluster)
    steps = claim.plan(cluster, present, views, listings, changed_by_others, state)
    facts = {"engine": cluster.engine, "engine_reason": reason} if present else {}
    return Planned(steps, missing, {"moved": claim.moved(cluster, present, listings, state), **facts})


def _changed_by_others(kernel: Kernel, cluster: Cluster) -> dict[str, str]:
    """The host's sysctls that its other clusters have changed, with their values before."""
    tables = {
        table
        for family, table in kernel.list_tables()
        if family == "netdev" and table.startswith(TABLE_PREFIX) and table != cluster.table
    }
    listings = kernel.tables([("", "netdev", table) for table in sorted(tables)], {"": View("", True)})
    return {key: value for listing in listings.values() for key, value in nft_listing.sysctls_in(listing).items()}
