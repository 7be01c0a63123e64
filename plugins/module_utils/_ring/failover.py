# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of failover on a host: claims, placeholder addresses and health checks, from the desired state.

keepalived alone elects the host of each slot. The claims process (follower) applies its decisions. When no member of
this host is healthy, it writes that to a file that all VRRP instances of keepalived track.
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
from . import claims as _claims


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


def failover_from(manifest: t.Mapping[str, t.Any]) -> Failover:
    """A cluster's desired state on the host: the part about claims. Raises LookupError, TypeError, ValueError."""
    # What is about to end is to release what it has.
    cluster, check = manifest["cluster"], manifest["failover"] or manifest["retired"]["failover"]
    uplink = UPLINKS[cluster["uplink"]]
    local = uplink.host_is_member
    # A bridged cluster has two maps: for frames from the LAN and from members, and for those of the host itself.
    families = dict.fromkeys(("netdev", uplink.family))
    kind = f"set {nft_names.OWNED}" if local else f"map {nft_names.OWNER}"
    versions = [ipaddress.ip_address(one["address"]).version for one in manifest["addresses"]]
    members = manifest["members"]
    claims = _claims.Claims(
        tables=tuple((f, _cluster.table_name(manifest["name"], v), kind) for v in versions for f in families),
        slots=int(check["slots"]),
        total_nodes=int(cluster["total_nodes"]),
        weights={member["name"]: int(member["weight"]) for member in members},
        macs={member["name"]: member["mac"] for member in members},
        linger=float(check["linger"]),
    )
    asked = []
    for member in members:
        netns = "" if local else member["name"]
        servers = [server for server in manifest["servers"] if server["netns"] == netns]
        instances = tuple(Instance(name=server["name"], netns=netns) for server in servers)
        ports = tuple(int(server["port"]) for server in servers)
        asked.append(Member(member["name"], netns, instances, ports, tuple(check["command"])))
    return Failover(
        claims=claims,
        placeholders=ipaddress.IPv4Network(check["placeholders"]),
        members=tuple(asked),
        interval=float(check["interval"]),
        timeout=float(check["timeout"]),
        fall=int(check["fall"]),
        rise=int(check["rise"]),
        hashing=Hashing(
            int(cluster["total_nodes"]), int(cluster["hash_init"]), cluster["hashmode"], cluster["hash_as"]
        ),
    )
