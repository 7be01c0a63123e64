# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Distribute buckets among members: by weight, deterministic, with as few moves as possible. Pure."""

from __future__ import annotations

import typing as t

from .._params import ParameterError


def owners(
    weights: t.Mapping[str, int], total_nodes: int, previous: t.Mapping[str, t.Iterable[int]] | None = None
) -> dict[str, list[int]]:
    """Member -> its buckets, from 1 to total_nodes; each bucket has one owner.

    weights: member -> weight, in the order of the members; a member of weight 0 is drained and owns nothing.
    previous: member -> buckets before. A bucket keeps its owner unless that is gone or has more than its share. Without
    previous owners the members join one after the other, so that a member appended to the list moves only its share.
    Raises ParameterError.
    """
    _check(weights, total_nodes)
    buckets = range(1, total_nodes + 1)
    if previous is None:
        names = [m for m, w in weights.items() if w > 0]
        result: dict[str, list[int]] = {}
        for count in range(1, len(names) + 1):
            result = shared_out({m: weights[m] for m in names[:count]}, buckets, result)
        return {m: result.get(m, []) for m in weights}
    return shared_out(weights, buckets, previous)


def shares(weights: t.Mapping[str, int], total_nodes: int, held: t.Mapping[str, int] | None = None) -> dict[str, int]:
    """Member -> number of buckets, by the largest remainder; of equal remainders, that of a member which holds more.

    held: member -> number of buckets before.
    """
    whole = sum(weights.values())
    held = held or {}
    result = {m: total_nodes * w // whole for m, w in weights.items()}
    order = list(weights)
    by_remainder = sorted(
        order, key=lambda m: (-(total_nodes * weights[m] % whole), held.get(m, 0) <= result[m], order.index(m))
    )
    for member in by_remainder[: total_nodes - sum(result.values())]:
        result[member] += 1
    return result


def shared_out(
    weights: t.Mapping[str, int], buckets: t.Sequence[int], previous: t.Mapping[str, t.Iterable[int]]
) -> dict[str, list[int]]:
    """Member -> its share of these buckets alone; the caller makes sure that a weight is above 0."""
    owner_of: dict[int, str] = {}
    for member in weights:
        for bucket in previous.get(member, ()):
            if bucket in buckets:
                owner_of.setdefault(bucket, member)
    held = {m: sum(1 for owner in owner_of.values() if owner == m) for m in weights}
    share = shares(weights, len(buckets), held)
    result: dict[str, list[int]] = {m: [] for m in weights}
    free = []
    for bucket in buckets:
        owner = owner_of.get(bucket)
        if owner is not None and len(result[owner]) < share[owner]:
            result[owner].append(bucket)
        else:
            free.append(bucket)
    for member, mine in result.items():
        lacking = share[member] - len(mine)
        mine.extend(free[:lacking])
        del free[:lacking]
        mine.sort()
    return result


def _check(weights: t.Mapping[str, int], total_nodes: int) -> None:
    if not any(w > 0 for w in weights.values()):
        raise ParameterError("members", dict(weights), "at least one member needs a weight above 0")
    for member, weight in weights.items():
        if weight < 0:
            raise ParameterError(f"members[{member}].weight", weight, "a weight is 0 or more; 0 drains")
    active = sum(1 for w in weights.values() if w > 0)
    if total_nodes < active:
        raise ParameterError("total_nodes", total_nodes, f"fewer buckets than members; use at least {active}")
