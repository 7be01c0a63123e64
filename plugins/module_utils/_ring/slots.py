# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slots: sets of buckets that fail over together, and the order in which hosts take each of them over. Pure.

The buckets of a slot never change. When a host joins or leaves, only the preferred hosts of slots change.
"""

from __future__ import annotations

import typing as t

from .._cluster import buckets
from .._params import ParameterError
from .vrrp import MAX_HOSTS

Slots = dict[str, list[int]]  # host -> the slots that it is the preferred host of


def buckets_of(slots: t.Iterable[int], count: int, total_nodes: int) -> list[int]:
    """The buckets of some of C(count) slots. Each slot has every C(count)th bucket, so all serve similar shares."""
    return sorted(bucket for slot in slots for bucket in range(slot, total_nodes + 1, count))


def preferred(weights: t.Mapping[str, int], count: int, previous: Slots | None = None) -> Slots:
    """Host -> its slots while all hosts are healthy. Moves as few slots from the previous hosts as possible.

    weights: of the hosts. Raises ParameterError.
    """
    if len(weights) > MAX_HOSTS:
        raise ParameterError("hosts", len(weights), f"use at most {MAX_HOSTS} hosts: VRRP has no more priorities")
    if count < len(weights):
        raise ParameterError("slots", count, f"use at least {len(weights)}, the number of hosts")
    if min(weights.values()) < 0 or not any(weights.values()):
        raise ParameterError("weight", dict(weights), "use weights of 0 or more, and at least one above 0")
    return buckets.owners(weights, count, previous)


def ranks(weights: t.Mapping[str, int], first: Slots) -> dict[int, list[str]]:
    """Slot -> all hosts by preference.

    The slots of a failed host are shared among all others by their weights, those of two among the rest, and so on.
    Hosts of weight 0 come last.
    """
    result: dict[int, list[str]] = {slot: [] for slots in first.values() for slot in slots}
    _rank(dict(weights), first, result)
    return result


def _rank(weights: dict[str, int], first: Slots, result: dict[int, list[str]]) -> None:
    for host, slots in first.items():
        if not slots:
            continue
        for slot in slots:
            result[slot].append(host)
        left = {h: w for h, w in weights.items() if h != host}
        if left:
            # Hosts that are all drained have equal shares.
            fair = left if any(left.values()) else dict.fromkeys(left, 1)
            _rank(left, buckets.shared_out(fair, slots, {}), result)


def moves(before: Slots, after: Slots) -> dict[str, dict[str, list[int]]]:
    """Slots that change hosts: previous host -> next host -> slots. A host "" means none."""
    old = {slot: host for host, slots in before.items() for slot in slots}
    new = {slot: host for host, slots in after.items() for slot in slots}
    result: dict[str, dict[str, list[int]]] = {}
    for slot in sorted({*old, *new}):
        was, becomes = old.get(slot, ""), new.get(slot, "")
        if was != becomes:
            result.setdefault(was, {}).setdefault(becomes, []).append(slot)
    return result
