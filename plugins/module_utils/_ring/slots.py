# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slots: sets of buckets that fail over as one, and which host takes which when others are gone. Pure.

What is in a slot never changes, so a host more or less changes only who is preferred for which.
"""

from __future__ import annotations

import typing as t

from .._cluster import buckets
from .._params import ParameterError

# VRRP's priorities go up to 254, 255 being for who has the address for good. Steps between ranks of hosts keep their
# elections apart, as a lower priority waits longer before it takes over (RFC 5798, 6.1: Skew_Time).
HIGHEST, STEP = 250, 8
MAX_HOSTS = HIGHEST // STEP

Slots = dict[str, list[int]]  # host -> the slots that it is preferred for


def buckets_of(slots: t.Iterable[int], count: int, total_nodes: int) -> list[int]:
    """The buckets in some of C(count) slots: every C(count)th belongs to one, so each has about as many clients."""
    return sorted(bucket for slot in slots for bucket in range(slot, total_nodes + 1, count))


def preferred(weights: t.Mapping[str, int], count: int, previous: Slots | None = None) -> Slots:
    """Host -> the slots that it is to have when all are well. As few as can be have another host than before."""
    if len(weights) > MAX_HOSTS:
        raise ParameterError("hosts", len(weights), f"VRRP has priorities for {MAX_HOSTS}")
    if count < len(weights):
        raise ParameterError("slots", count, f"there must be as many as hosts at least ({len(weights)})")
    if min(weights.values()) < 0 or not any(weights.values()):
        raise ParameterError("weight", dict(weights), "one host at least needs a weight above 0, and none one below")
    return buckets.owners(weights, count, previous)


def ranks(weights: t.Mapping[str, int], first: Slots) -> dict[int, list[str]]:
    """Slot -> all hosts, in the order in which they are to have it.

    What one host leaves is shared out among all others by their weights, what two leave among those left, and so on.
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
            # Of hosts that are all drained, each is as good.
            fair = left if any(left.values()) else dict.fromkeys(left, 1)
            _rank(left, buckets.shared_out(fair, slots, {}), result)


def priority(rank: int) -> int:
    """The VRRP priority of the host that is 0th, 1st, 2nd … in a slot's order."""
    return HIGHEST - STEP * rank


def moves(before: Slots, after: Slots) -> dict[str, dict[str, list[int]]]:
    """Slots that are to have another host: from whom -> to whom -> which. "" stands for nobody."""
    old = {slot: host for host, slots in before.items() for slot in slots}
    new = {slot: host for host, slots in after.items() for slot in slots}
    result: dict[str, dict[str, list[int]]] = {}
    for slot in sorted({*old, *new}):
        was, becomes = old.get(slot, ""), new.get(slot, "")
        if was != becomes:
            result.setdefault(was, {}).setdefault(becomes, []).append(slot)
    return result
