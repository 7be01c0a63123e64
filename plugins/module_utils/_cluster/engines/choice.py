# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Choose the engine of a cluster on a host, or refuse the one that the user asks for. Pure."""

from __future__ import annotations

from dataclasses import replace

from ... import _params as p
from ..._kernel.observed import Host
from ..cluster import Cluster
from ..uplinks.registry import uplink_of
from .registry import AUTO, ENGINES, engine_of, needs_announcement


def choose(cluster: Cluster, host: Host) -> tuple[Cluster, str]:
    """The cluster with its engine, and the reason for it. Raises ParameterError."""
    if cluster.engine != AUTO:
        if engine_of(cluster).probes_kernel and (objection := _objection(cluster, host)):
            raise objection
        return cluster, "as asked for"
    reasons: list[str] = []
    for engine in ENGINES:
        candidate = replace(cluster, engine=engine)
        objection = _objection(candidate, host)
        if not objection:
            return candidate, "; ".join([*reasons, f"{engine} supports this configuration"])
        reasons.append(f"not {engine}: {objection}")
    remedy = f"no engine supports this configuration on Linux {host.release}: {'; '.join(reasons)}"
    raise p.ParameterError("engine", AUTO, remedy)


def refuse(cluster: Cluster) -> None:
    """Refuse a configuration that the engine supports on no kernel. Raises ParameterError."""
    if cluster.engine != AUTO and (objection := engine_of(cluster).limit(cluster)):
        raise objection


def moves_buckets(engine: str) -> bool:
    """Whether buckets move by changing elements of a set, so that the claims process can move them."""
    return engine in ENGINES and ENGINES[engine].elements


def refuse_failover(engine: str) -> None:
    """Refuse an engine that cannot move buckets as keepalived decides. Raises ParameterError."""
    if not moves_buckets(engine):
        able = [name for name, one in ENGINES.items() if one.elements]
        remedy = f"with failover, keepalived assigns buckets to hosts; use engine={' or '.join(able)}"
        raise p.ParameterError("engine", engine, remedy)


def probes_kernel(cluster: Cluster) -> bool:
    """Whether C(choose) needs the abilities of the kernel."""
    return cluster.engine == AUTO or engine_of(cluster).probes_kernel


def families_of(cluster: Cluster) -> set[str]:
    """The nftables families to probe for."""
    if cluster.engine != AUTO and engine_of(cluster).announces_mac(cluster):
        return set()  # nothing is left for nftables to do
    return {"netdev", cluster.family, *uplink_of(cluster).families}


def _objection(cluster: Cluster, host: Host) -> p.ParameterError | None:
    engine = engine_of(cluster)
    if objection := engine.limit(cluster) or engine.lacking(host):
        return objection
    needed = {*uplink_of(cluster).families, *engine.families(cluster)}
    if needs_announcement(cluster):
        needed.add("netdev")
    if lacking := sorted(needed - host.families):
        families = f"famil{'ies' if len(lacking) > 1 else 'y'} {' and '.join(lacking)}"
        remedy = f"requires the nftables {families}, which the kernel {host.release} does not have"
        return p.ParameterError("engine", cluster.engine, remedy)
    return None
