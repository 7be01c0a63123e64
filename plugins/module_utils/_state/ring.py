# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ring of a cluster of many hosts, as each host stores it: hosts, and which slots and buckets they have."""

from __future__ import annotations

from dataclasses import dataclass

from . import values as v
from .schema import omitted


@dataclass(frozen=True)
class Host:
    """A host of the ring. C(address): its own on the LAN, from which it sends VRRP; "" without failover."""

    number: v.Number
    weight: int
    address: str


@dataclass(frozen=True)
class HostMember:
    """A member of a host, as the role C(netns_cluster) takes it."""

    name: v.Netns
    number: v.Number
    cpus: tuple[int, ...] = omitted(())


@dataclass(frozen=True)
class RingState:
    """The ring. C(generation) grows with every change."""

    generation: int
    hosts: dict[str, Host]
    failover: bool
    slots: v.Bucket
    preferred: dict[str, tuple[v.Bucket, ...]]  # host -> its slots while all hosts are healthy
    ranks: tuple[tuple[str, ...], ...]  # of each slot: the hosts in the order of their priority
    members: dict[str, tuple[HostMember, ...]]
    claims: dict[str, tuple[v.Bucket, ...]]  # host -> its buckets while all hosts are healthy
    held: dict[str, int]  # host -> the number of its slots before the run
    moves: dict[str, dict[str, tuple[v.Bucket, ...]]]  # slots that change hosts in the run: from -> to -> slots
