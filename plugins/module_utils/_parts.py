# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of a cluster: for each, what is looked at in the kernel, and the plan that follows from it.

The modules take them one by one, and C(_restore.py) all of a cluster at boot: so that both do the same.
"""

from __future__ import annotations

import socket
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.clustered.openvpn.plugins.module_utils import (
    _bridges,
    _bundle,
    _bundle_plan,
    _cluster,
    _clusterip,
    _topology,
    _uplink,
    _uplink_bridged,
    _uplink_local,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._engines import choice, nftables
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import Kernel
from ansible_collections.clustered.openvpn.plugins.module_utils._observed import View
from ansible_collections.clustered.openvpn.plugins.module_utils._plan import Step


@dataclass
class Planned:
    """What a planner hands back: the steps, what another task must make first, and facts for the result.

    C(result) is about what is there, and C(done) about the changes.
    """

    steps: list[Step]
    missing: list[str] = field(default_factory=list)
    result: dict[str, t.Any] = field(default_factory=dict)
    done: dict[str, t.Any] = field(default_factory=dict)


def namespaces(kernel: Kernel, wanted: t.Sequence[_topology.Namespace], present: bool) -> Planned:
    """Network namespaces."""
    sysctls = {n.name: n.sysctls for n in wanted}
    return Planned(_topology.plan_namespaces(wanted, present, kernel.observe(sysctls, (), sysctls)))


def veths(kernel: Kernel, wanted: t.Sequence[_topology.Veth], present: bool) -> Planned:
    """veth pairs."""
    ends = [end for veth in wanted for end in (veth.end, veth.peer)]
    views = kernel.observe((end.netns for end in ends), ("addresses", "routes"))
    missing = _topology.missing(ends, views) if present else []
    return Planned(_topology.plan_veths(wanted, present, views), missing)


def bridges(kernel: Kernel, wanted: t.Sequence[_bridges.Bridge], present: bool) -> Planned:
    """Bridges."""
    views = kernel.observe((b.interface.netns for b in wanted), ("addresses", "routes", "fdb"))
    missing = _bridges.missing(wanted, views) if present else []
    return Planned(_bridges.plan_bridges(wanted, present, views), missing)


def clusterip(kernel: Kernel, cluster: _cluster.Cluster, present: bool) -> Planned:
    """The claim of a service address; the result says how many buckets it moves."""
    old, reason = _clusterip.Old(), ""
    if present and cluster.engine != "nftables":
        host = kernel.abilities(choice.families_of(cluster))
        cluster, reason = choice.choose(cluster, host)
        old = replace(old, families=host.families)
    views = kernel.observe((node.netns for node in cluster.members), ("addresses",))
    heeding = [_uplink.accept_ra(name) for _index, name in socket.if_nameindex()]
    sysctls = {"": [*_uplink.host_sysctls(cluster), *heeding, *_uplink_local.arp_ignore(cluster.interface)]}
    asked = [(cluster.interface, cluster.address)]
    views.update(kernel.observe([""], ("addresses", "routes", "neighbours", "fdb", "multicast"), sysctls, asked))
    listings = kernel.tables(_clusterip.tables_of(cluster), views)
    if cluster.version == 4:
        places = [node.netns for node in _clusterip.deciding(cluster)]
        old = replace(old, saved=kernel.saved(places, cluster.address))
    missing = _uplink.missing(cluster, views) if present else []
    if present and cluster.uplink == "bridged":
        _uplink_bridged.refuse(cluster, views[""])
    if present and cluster.uplink == "local":
        _uplink_local.refuse(cluster, views[""])
    remembers = _clusterip.before_in(cluster, listings)
    elsewhere = {} if present and remembers else _elsewhere(kernel, cluster)
    steps = _clusterip.plan(cluster, present, views, listings, elsewhere, old)
    said = {"engine": cluster.engine, "engine_reason": reason or "as asked for"} if present else {}
    return Planned(steps, missing, {"moved": _clusterip.moved(cluster, present, listings, old), **said})


def bundle(kernel: Kernel, wanted: _bundle.Bundle, present: bool) -> Planned:
    """One end of a bundle of tunnels; which of them are in the spread now is not its business."""
    place = wanted.netns
    views = kernel.observe([place], (), {place: _bundle_plan.sysctls(wanted)})
    if not views[place].exists:
        remedy = "make it first with clustered.openvpn.netns"
        missing = [f"netns: {place!r}: no such network namespace; {remedy}"] if present else []
        return Planned([], missing, {"live": []}, {"made": []})
    listing = bundle_table(kernel, wanted, place)
    seen = kernel.routing(place, _bundle_plan.destinations(wanted).values() if present else ())
    if present:
        steps = _bundle_plan.plan(wanted, seen, views[place].sysctls, listing)
    else:
        steps = _bundle_plan.plan_absent(wanted, seen, listing)
    made = _bundle_plan.missing_devices(wanted, seen) if present else []
    return Planned(steps, [], {"live": _bundle.live_in(wanted, listing) if present else []}, {"made": made})


def bundle_table(kernel: Kernel, wanted: _bundle.Bundle, place: str = "") -> t.Any:
    """The table that spreads its packets, as nft lists it; None where there is none."""
    key = (place, "inet", wanted.table)
    return kernel.tables([key], {place: View(place, True)})[key]


def _elsewhere(kernel: Kernel, cluster: _cluster.Cluster) -> dict[str, str]:
    """The host's sysctls that its other clusters have changed, and what they were before."""
    prefix = _cluster.table_name("")
    tables = {t for f, t in kernel.list_tables() if f == "netdev" and t.startswith(prefix) and t != cluster.table}
    listings = kernel.tables([("", "netdev", table) for table in sorted(tables)], {"": View("", True)})
    return {key: value for listing in listings.values() for key, value in nftables.before_in(listing).items()}
