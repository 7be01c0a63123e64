# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which engine a cluster has on a host, and why; or why it cannot have the one that was asked for. Pure."""

from __future__ import annotations

from dataclasses import replace

from ... import _params as p
from ..._kernel.observed import Host
from ..cluster import Cluster
from . import clusterip, xt_cluster

GONE = "it is gone since Linux 6.3"


def choose(cluster: Cluster, host: Host) -> tuple[Cluster, str]:
    """The cluster with its engine decided, and the reason. Raises ParameterError."""
    if cluster.engine != "auto":
        objection = None if cluster.engine == "nftables" else _objection(cluster, host)
        if objection:
            raise objection
        return cluster, "as asked for"
    reasons: list[str] = []
    for engine in ("nftables", "xt_cluster", "clusterip"):
        wanted = replace(cluster, engine=engine)
        objection = _objection(wanted, host)
        if not objection:
            return wanted, "; ".join([*reasons, f"{engine} can do all that is wanted"])
        reasons.append(f"not {engine}: {objection}")
    raise p.ParameterError(
        "engine", "auto", f"none can do what is wanted on Linux {host.release}: {'; '.join(reasons)}"
    )


def refuse(cluster: Cluster) -> None:
    """Say what the engine that was asked for cannot do on any kernel. Raises ParameterError."""
    limit = {"clusterip": clusterip.limit, "xt_cluster": xt_cluster.limit}.get(cluster.engine)
    if limit and (objection := limit(cluster)):
        raise objection


def families_of(cluster: Cluster) -> set[str]:
    """Those of nftables that make a difference."""
    if cluster.engine == "clusterip" and cluster.uplink == "local":
        return set()
    family = "ip" if cluster.version == 4 else "ip6"
    return {"netdev", family, *(["bridge"] if cluster.uplink == "bridged" else [])}


def _objection(cluster: Cluster, host: Host) -> p.ParameterError | None:
    if cluster.engine == "clusterip":
        objection = clusterip.limit(cluster)
        if not objection and not host.clusterip:
            remedy = (
                f"this kernel, {host.release}, has no CLUSTERIP: {GONE}; use engine=nftables with hash_as=clusterip,"
                " which shares a ring with hosts that still have it"
            )
            objection = p.ParameterError("engine", "clusterip", remedy)
    else:
        objection = xt_cluster.limit(cluster) if cluster.engine == "xt_cluster" else None
    lacking = sorted(_needed(cluster) - host.families)
    if not objection and lacking:
        remedy = f"needs nftables' {' and '.join(lacking)}, which this kernel, {host.release}, has not"
        objection = p.ParameterError("engine", cluster.engine, remedy)
    return objection


def _needed(cluster: Cluster) -> set[str]:
    """The families of nftables without which it cannot be."""
    needed = {"bridged": {"bridge"}, "routed": {"netdev"}, "local": set()}[cluster.uplink]
    if cluster.engine == "nftables":
        return {*needed, "netdev", "ip" if cluster.version == 4 else "ip6"}
    # CLUSTERIP says its MAC address by itself, but not that of members behind a bridge.
    if cluster.shared and not (cluster.engine == "clusterip" and cluster.uplink == "local"):
        needed.add("netdev")
    return needed
