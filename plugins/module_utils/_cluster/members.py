# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The members of a cluster with their addresses and buckets. Pure."""

from __future__ import annotations

import hashlib
import typing as t

from .. import _params as p
from .._state.cluster import Member
from . import buckets
from .lan import PREFIX, Lan
from .request import Request


def member_mac(cluster: str, member: str) -> str:
    """A MAC address made from the names: stable, unicast, locally administered."""
    digest = hashlib.sha256(f"{cluster}/{member}".encode()).digest()
    return "02:" + ":".join(f"{byte:02x}" for byte in digest[:5])


def members_of(request: Request, lan: Lan, former: t.Iterable[Member] = ()) -> tuple[Member, ...]:
    """The members. As few buckets as possible move away from the former ones. Raises ParameterError."""
    former = tuple(former)
    held = {member.name: member.local_nodes for member in former}
    pinned = {member.name: tuple(cpu for cpu in member.cpus if cpu < (request.cores or cpu + 1)) for member in former}
    services = [address for _parameter, address in request.addresses]
    addresses = {
        member.name: {
            f"{PREFIX[family.version]}address": lan.address_of(member, family, services) for family in lan.families
        }
        for member in request.members
    }
    for family in lan.families:
        key = f"{PREFIX[family.version]}address"
        p.unique(f"members.{key}", (found[key] for found in addresses.values()))
    owners = _owners(request, held)
    return tuple(
        Member(
            name=member.name,
            number=member.number,
            weight=member.weight,
            cpus=pinned.get(member.name, ()) if member.cpus is None else member.cpus,
            local_nodes=tuple(owners[member.name]),
            mac=member_mac(request.name, member.name) if lan.bridge else "",
            **addresses[member.name],
        )
        for member in request.members
    )


def _owners(request: Request, held: t.Mapping[str, t.Iterable[int]]) -> dict[str, list[int]]:
    """Of all buckets; or of those of this host, if it shares the address with others."""
    weights = {member.name: member.weight for member in request.members}
    if not request.shared:
        return buckets.owners(weights, request.total_nodes, held or None)
    # All weights may be 0: then every member of the host is drained, and owns nothing.
    return (
        buckets.shared_out(weights, request.buckets, held) if any(weights.values()) else {name: [] for name in weights}
    )
