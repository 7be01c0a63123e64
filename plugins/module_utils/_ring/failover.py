# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of failover on a host: claims, placeholder addresses and health checks, from the desired state.

keepalived alone elects the host of each slot. The claims process (follower) applies its decisions. When no member of
this host is healthy, it writes that to a file that all VRRP instances of keepalived track.

On one host, the members replace each other without keepalived: C(home) is given.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass

from .._cluster import cluster as _cluster
from .._cluster.engines import nft_names
from .._cluster.reconnect import Hashing
from .._cluster.uplinks.registry import UPLINKS
from .._openvpn.instance import Instance
from .._state.cluster import ClusterState
from .._state.files import State, StateError
from . import claims as _claims
from . import paths


@dataclass(frozen=True)
class Member:
    """A member with its health checks. C(netns) "" is the host itself."""

    name: str
    netns: str
    instances: tuple[Instance, ...]
    ports: tuple[int, ...]  # of the instances
    command: tuple[str, ...]  # an additional health check; empty for none


@dataclass(frozen=True)
class Failover:
    """Settings of the claims process. Times are in seconds."""

    claims: _claims.Claims
    placeholders: ipaddress.IPv4Network  # addresses of keepalived on the loopback; the last byte is the slot
    members: tuple[Member, ...]
    interval: float
    timeout: float
    fall: int
    rise: int
    hashing: Hashing
    home: t.Mapping[int, str] | None = None  # bucket -> its member in the layout; None: keepalived assigns them


def failover_from(state: State) -> Failover:
    """The settings in a cluster's desired state. Raises StateError if it has none."""
    # A service that is about to end has to release its claims: its settings are among the retired ones.
    settings = (state.failover or state.retired.failover) if isinstance(state, ClusterState) else None
    if not isinstance(state, ClusterState) or settings is None:
        raise StateError(
            f"{paths.desired_state(state.name)} has no failover settings; run the role clusterip_cluster with"
            " clusterip_cluster_failover: true"
        )
    cluster, members = state.cluster, state.members
    uplink = UPLINKS[cluster.uplink]
    local = uplink.host_is_member
    # A bridged cluster has two maps: for frames from the LAN and from members, and for those of the host itself.
    families = dict.fromkeys(("netdev", uplink.family))
    kind = f"set {nft_names.OWNED}" if local else f"map {nft_names.OWNER}"
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
        home=None if settings.keepalived else {bucket: m.name for m in members for bucket in m.local_nodes},
        hashing=Hashing(cluster.total_nodes, cluster.hash_init, cluster.hashmode, cluster.hash_as),
    )
