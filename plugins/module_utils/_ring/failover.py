# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of the claims service, from the desired state of a cluster: tables, members, health checks. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from .._cluster import cluster as _cluster
from .._cluster.engines import nftables
from .._cluster.reconnect import Hashing
from .._openvpn.instance import Instance
from .._state.cluster import ClusterState
from .._state.files import DIRECTORY, State, StateError
from . import claims as _claims


@dataclass(frozen=True)
class Member:
    """A member whose health is checked. C(netns) "" is the host itself."""

    name: str
    netns: str
    instances: tuple[Instance, ...]
    ports: tuple[int, ...]  # that they serve
    command: tuple[str, ...]


@dataclass(frozen=True)
class Failover:
    """Settings of the claims service. Times are in seconds."""

    claims: _claims.Claims
    placeholders: ipaddress.IPv4Network  # addresses that keepalived adds to the loopback: the last byte is the slot
    members: tuple[Member, ...]
    interval: float
    timeout: float
    fall: int
    rise: int
    hashing: Hashing


def failover_from(state: State) -> Failover:
    """The settings in a cluster's desired state. Raises StateError if it has none."""
    # A service that is about to end has to release its claims: its settings are among the retired ones.
    settings = (state.failover or state.retired.failover) if isinstance(state, ClusterState) else None
    if not isinstance(state, ClusterState) or settings is None:
        raise StateError(
            f"{DIRECTORY}/{state.name}.json has no failover settings: set clusterip_cluster_failover, and run the role"
        )
    cluster, members = state.cluster, state.members
    local = cluster.uplink == "local"
    # A bridged cluster has two look-ups: one for frames from the LAN and the members, one for the host's own packets.
    families = ("netdev", "bridge") if cluster.uplink == "bridged" else ("netdev",)
    kind = f"set {nftables.OWNED}" if local else f"map {nftables.OWNER}"
    versions = [ipaddress.ip_address(one.address).version for one in state.addresses]
    claims = _claims.Claims(
        tables=tuple((f, _cluster.table_name(state.name, v), kind) for v in versions for f in families),
        slots=settings.slots,
        total_nodes=cluster.total_nodes,
        weights={member.name: member.weight for member in members},
        macs={member.name: member.mac for member in members},
        linger=settings.linger,
    )
    checked = []
    for member in members:
        netns = "" if local else member.name
        servers = [server for server in state.servers if server.netns == netns]
        instances = tuple(Instance(name=server.name, netns=netns) for server in servers)
        ports = tuple(server.port for server in servers)
        checked.append(Member(member.name, netns, instances, ports, settings.command))
    return Failover(
        claims=claims,
        placeholders=ipaddress.IPv4Network(settings.placeholders),
        members=tuple(checked),
        interval=settings.interval,
        timeout=settings.timeout,
        fall=settings.fall,
        rise=settings.rise,
        hashing=Hashing(cluster.total_nodes, cluster.hash_init, cluster.hashmode, cluster.hash_as),
    )
