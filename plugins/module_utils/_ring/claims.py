# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Claims of a host: what keepalived says of slots, and which members are well -> who owns which buckets. Pure.

Times are those of a clock that only goes forward, in seconds.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._cluster import buckets
from . import slots as _slots

Owners = dict[int, str]  # bucket -> member


@dataclass(frozen=True)
class Claims:
    """What the cluster's structure says of claims: the same for as long as that does not change."""

    tables: tuple[tuple[str, str, str], ...]  # family, table, and "map owner" or "set owned"
    slots: int
    total_nodes: int
    weights: t.Mapping[str, int]  # of the members
    macs: t.Mapping[str, str]  # of the members; "" where the host itself is one
    linger: float = 0.1  # how long what another host takes is still accepted here: none is without an owner meanwhile


def shared_out(claims: Claims, held: t.Iterable[int], well: t.Collection[str], before: t.Mapping[int, str]) -> Owners:
    """Slot -> member: each slot that this host has, if any member is well. Few leave the member that they were at."""
    weights = {member: weight for member, weight in claims.weights.items() if member in well}
    if not weights:
        return {}
    if not any(weights.values()):  # those that are left are drained: better they than nobody
        weights = dict.fromkeys(weights, 1)
    previous: dict[str, list[int]] = {}
    for slot, member in before.items():
        previous.setdefault(member, []).append(slot)
    shared = buckets.shared_out(weights, sorted(held), previous)
    return {slot: member for member, slots in shared.items() for slot in slots}


def elements(claims: Claims, slots: Owners) -> dict[int, str]:
    """Bucket -> MAC address of its owner: what the kernel is to hold."""
    return {
        bucket: claims.macs[member]
        for slot, member in slots.items()
        for bucket in _slots.buckets_of([slot], claims.slots, claims.total_nodes)
    }


def transaction(claims: Claims, wanted: t.Mapping[int, str]) -> list[str]:
    """The lines of one nft transaction that makes just these the owners, whatever was before."""
    lines = []
    for family, table, kind in claims.tables:
        name = kind.split()[-1]
        lines.append(f"flush {kind.split()[0]} {family} {table} {name}")
        if wanted:
            each = (f"{bucket} : {mac}" if mac else str(bucket) for bucket, mac in sorted(wanted.items()))
            lines.append(f"add element {family} {table} {name} {{ {', '.join(each)} }}")
    return lines


def changes(before: t.Mapping[int, str], after: t.Mapping[int, str]) -> str:
    """What changed, for the log: who got how many slots from whom."""
    counts: dict[tuple[str, str], int] = {}
    for slot in sorted({*before, *after}):
        ends = before.get(slot, "other hosts"), after.get(slot, "other hosts")
        if ends[0] != ends[1]:
            counts[ends] = counts.get(ends, 0) + 1
    return ", ".join(f"{count} slots from {old} to {new}" for (old, new), count in sorted(counts.items()))
