# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claims of a host: its slots and healthy members -> the owner of each bucket, as an nft transaction. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._cluster import buckets
from . import slots as _slots
from .vrrp import LINGER

Owners = dict[int, str]  # slot -> member


@dataclass(frozen=True)
class Claims:
    """The cluster's part of the desired state that claims depend on."""

    tables: tuple[tuple[str, str, str], ...]  # family, table, and "map owner" or "set owned"
    slots: int
    total_nodes: int
    weights: t.Mapping[str, int]  # of the members
    macs: t.Mapping[str, str]  # of the members; "" where the host itself is one
    linger: float = LINGER  # seconds


def shared_out(
    claims: Claims, held: t.Iterable[int], healthy: t.Collection[str], before: t.Mapping[int, str]
) -> Owners:
    """Share the slots of this host among its healthy members by weight; as few slots as possible change members."""
    weights = {member: weight for member, weight in claims.weights.items() if member in healthy}
    if not weights:
        return {}
    if not any(weights.values()):  # all healthy members are drained; better they serve than none
        weights = dict.fromkeys(weights, 1)
    previous: dict[str, list[int]] = {}
    for slot, member in before.items():
        previous.setdefault(member, []).append(slot)
    # keepalived is not trusted with numbers: a slot that does not exist would claim buckets of others.
    existing = sorted(slot for slot in held if 1 <= slot <= claims.slots)
    shared = buckets.shared_out(weights, existing, previous)
    return {slot: member for member, slots in shared.items() for slot in slots}


def elements(claims: Claims, slots: Owners) -> dict[int, str]:
    """Bucket -> MAC address of its owner: the elements of the kernel's map or set."""
    return {
        bucket: claims.macs[member]
        for slot, member in slots.items()
        for bucket in _slots.buckets_of([slot], claims.slots, claims.total_nodes)
    }


def transaction(claims: Claims, wanted: t.Mapping[int, str]) -> list[str]:
    """The lines of one nft transaction that replaces all owners by these."""
    lines = []
    for family, table, kind in claims.tables:
        name = kind.split()[-1]
        lines.append(f"flush {kind.split()[0]} {family} {table} {name}")
        if wanted:
            each = (f"{bucket} : {mac}" if mac else str(bucket) for bucket, mac in sorted(wanted.items()))
            lines.append(f"add element {family} {table} {name} {{ {', '.join(each)} }}")
    return lines


def changes(before: t.Mapping[int, str], after: t.Mapping[int, str]) -> str:
    """The moves of slots between members, for the journal."""
    counts: dict[tuple[str, str], int] = {}
    for slot in sorted({*before, *after}):
        ends = before.get(slot, "other hosts"), after.get(slot, "other hosts")
        if ends[0] != ends[1]:
            counts[ends] = counts.get(ends, 0) + 1
    return ", ".join(f"{count} slots from {old} to {new}" for (old, new), count in sorted(counts.items()))
