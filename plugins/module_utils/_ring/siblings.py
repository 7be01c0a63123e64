# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failover among the members of one host: who owns which bucket, when nothing moves, which member restarts. Pure.

The home of a bucket is its owner in the layout. Times are those of a monotonic clock, in seconds.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .._cluster import buckets

Owners = dict[int, str]  # bucket -> member

AT_ONCE = 10.0  # most members unhealthy within this time have a cause outside: a directory, the host, the network
SETTLE = 10.0  # after that, nothing moves for this time: members recover one after the other
RESTART_AFTER = 10.0  # a server that does not answer is restarted
RESTART_AGAIN = 60.0  # and not again before


def completed(home: t.Mapping[int, str], present: t.Mapping[int, str]) -> Owners:
    """The present owners. A bucket without one, or with one that is no member, goes home."""
    members = set(home.values())
    return {bucket: present[bucket] if present.get(bucket) in members else home[bucket] for bucket in home}


def shared_out(
    home: t.Mapping[int, str],
    weights: t.Mapping[str, int],
    healthy: t.Collection[str],
    present: t.Mapping[int, str],
) -> Owners:
    """The owners. Buckets of healthy members are at home; those of the others stay at a healthy member or go to one.

    With nobody healthy, all stays as it is. weights: of all members; 0 is drained, and takes over only if no other can.
    """
    able = {member: weight for member, weight in weights.items() if member in healthy}
    if not able:
        return completed(home, present)
    if not any(able.values()):
        able = dict.fromkeys(able, 1)
    owners: Owners = {}
    for bucket, member in home.items():
        if member in healthy:
            owners[bucket] = member
        elif present.get(bucket) in able:
            owners[bucket] = present[bucket]
    left = [bucket for bucket in home if bucket not in owners]
    shares = buckets.shared_out(able, sorted(left), {})
    owners.update({bucket: member for member, share in shares.items() for bucket in share})
    return {bucket: owners[bucket] for bucket in home}


def most(members: int, times: t.Iterable[float]) -> bool:
    """Whether more than half of the members became unhealthy at once, by the times when they did."""
    ordered = sorted(times)
    return any(sum(1 for one in ordered[i:] if one <= first + AT_ONCE) * 2 > members for i, first in enumerate(ordered))


@dataclass
class Siblings:
    """The members of a host, and since when they are unhealthy."""

    home: t.Mapping[int, str]
    weights: t.Mapping[str, int]
    since: dict[str, float] = field(default_factory=dict)  # unhealthy members
    _calm_at: float = float("-inf")  # when moves and restarts are possible again
    _restarted: dict[str, float] = field(default_factory=dict)

    def update(self, now: float, unhealthy: t.Collection[str]) -> None:
        """Note who is unhealthy."""
        self.since = {member: self.since.get(member, now) for member in self.weights if member in unhealthy}
        if most(len(self.weights), self.since.values()):
            self._calm_at = now + SETTLE

    def calm(self, now: float) -> bool:
        """Whether buckets may move and servers restart."""
        return now >= self._calm_at

    def owners(self, now: float, doubtful: t.Collection[str], present: t.Mapping[int, str]) -> Owners:
        """Bucket -> its owner from now on.

        doubtful: members whose last check failed, or whose check has no answer yet. They may become unhealthy with the
        others, so nothing moves before it is certain that most do not.
        """
        times = [*self.since.values(), *(now for member in doubtful if member not in self.since)]
        if not self.calm(now) or most(len(self.weights), times):
            return completed(self.home, present)
        return shared_out(self.home, self.weights, [m for m in self.weights if m not in self.since], present)

    def restarts(self, now: float) -> list[str]:
        """The members with a server to restart now. Each is returned once."""
        due = []
        for member, since in self.since.items() if self.calm(now) else ():
            again = self._restarted.get(member, float("-inf")) + RESTART_AGAIN
            if now >= max(since + RESTART_AFTER, again):
                self._restarted[member] = now
                due.append(member)
        return due


def starts_healthy(home: t.Mapping[int, str], present: t.Mapping[int, str]) -> set[str]:
    """The members that a new process takes for healthy: those that own a bucket of theirs.

    The buckets of the others were moved away, or they are new: they have to pass their checks first.
    """
    return {member for bucket, member in home.items() if present.get(bucket) == member}


def away(home: t.Mapping[int, str], owners: t.Mapping[int, str]) -> dict[str, dict[str, list[int]]]:
    """Member -> who has its buckets -> which."""
    found: dict[str, dict[str, list[int]]] = {}
    for bucket, member in home.items():
        owner = owners.get(bucket, member)
        if owner != member:
            found.setdefault(member, {}).setdefault(owner, []).append(bucket)
    return found
