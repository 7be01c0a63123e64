# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Owners of buckets: weighted, deterministic, and with as few moves as can be. Pure."""

from __future__ import annotations

import typing as t

from .._params import ParameterError


def owners(
    weights: t.Mapping[str, int], total_nodes: int, previous: t.Mapping[str, t.Iterable[int]] | None = None
) -> dict[str, list[int]]:
    """Member -> its buckets (of 1 … total_nodes), each bucket owned once.

    weights: member -> weight, in the members' order; weight 0 owns nothing (drained).
    previous: the owners until now. A bucket stays where it is unless its owner is gone or has more than its share.
    Without it the members are taken in one after the other, so that even then a member more at the end of the list
    moves only its own share.
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
    """Member -> number of buckets, by largest remainder; of equal ones the one that holds it is rounded up."""
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
    """Member -> its share of just these buckets. One weight at least is above 0."""
    at: dict[int, str] = {}
    for member in weights:
        for bucket in previous.get(member, ()):
            if bucket in buckets:
                at.setdefault(bucket, member)
    held = {m: sum(1 for owner in at.values() if owner == m) for m in weights}
    share = shares(weights, len(buckets), held)
    result: dict[str, list[int]] = {m: [] for m in weights}
    free = []
    for bucket in buckets:
        owner = at.get(bucket)
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
            raise ParameterError(f"members[{member}].weight", weight, "a weight is 0 or more")
    alive = sum(1 for w in weights.values() if w > 0)
    if total_nodes < alive:
        raise ParameterError("total_nodes", total_nodes, f"there must be as many buckets as members at least ({alive})")
