# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Claims of a host: what keepalived says of slots, and which members are well -> who owns which buckets. Pure.

Times are those of a clock that only goes forward, in seconds.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.clustered.openvpn.plugins.module_utils import _buckets, _slots
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError

# What keepalived writes to its FIFO, of each of its VRRP instances: INSTANCE "vpn-12" MASTER 250
_LINE = re.compile(r'^INSTANCE "[a-z0-9_-]+-([0-9]+)" ([A-Z_]+)( [0-9]+)?$')

Owners = dict[int, str]  # bucket -> member


def check(wanted: t.Mapping[str, t.Any]) -> None:
    """How members are asked whether they are well: what would have all of them unwell is refused, as ParameterError."""
    command = wanted["command"]
    if isinstance(command, str) or not all(isinstance(word, str) and word for word in command):
        raise ParameterError("check_command", command, "give a list: the command and its arguments, each a text")
    for key in ("fall", "rise"):
        if wanted[key] < 1:
            raise ParameterError(f"check_{key}", wanted[key], "checks in a row, 1 at least")
    for key in ("interval", "timeout"):
        if not 0 < wanted[key] <= 60:
            raise ParameterError(f"check_{key}", wanted[key], "seconds, above 0 and up to 60")


@dataclass(frozen=True)
class Claims:
    """What the cluster's structure says of claims: the same for as long as that does not change."""

    tables: tuple[tuple[str, str, str], ...]  # family, table, and "map owner" or "set owned"
    slots: int
    total_nodes: int
    weights: t.Mapping[str, int]  # of the members
    macs: t.Mapping[str, str]  # of the members; "" where the host itself is one
    linger: float = 0.1  # how long what another host takes is still accepted here: none is without an owner meanwhile


@dataclass
class Election:
    """Which slots keepalived has given to this host."""

    linger: float
    _doubted: frozenset[int] = frozenset()  # slots of which keepalived's addresses said something else
    _until: dict[int, float] = field(default_factory=dict)  # slot -> when it is no more this host's

    def told(self, line: str, now: float) -> None:
        """Take in a line of the FIFO; others than those of instances say nothing."""
        match = _LINE.match(line)
        if match is None:
            return
        slot, state = int(match.group(1)), match.group(2)
        if state == "MASTER":
            self._until[slot] = float("inf")
        elif state in ("BACKUP", "STOP") and slot in self._until:
            # The one that has it now accepts already, or is about to.
            self._until[slot] = min(self._until[slot], now + self.linger)
        elif state in ("FAULT", "DELETED"):
            self._until.pop(slot, None)

    def seen(self, slots: t.Collection[int]) -> None:
        """Which slots keepalived holds by its addresses. Of those it has once, a reload of it says nothing.

        Believed when it is seen twice: address and line do not come at the same moment.
        """
        differing = {slot for slot, until in self._until.items() if until == float("inf")} ^ set(slots)
        for slot in differing & self._doubted:
            if slot in slots:
                self._until[slot] = float("inf")
            else:
                self._until.pop(slot, None)
        self._doubted = frozenset(differing)

    def took_over(self, slots: t.Iterable[int]) -> None:
        """What this host had already."""
        self._until.update(dict.fromkeys(slots, float("inf")))

    def forget(self) -> None:
        """Nobody says anything any more: this host has none."""
        self._until.clear()

    def held(self, now: float) -> frozenset[int]:
        """The slots that are this host's."""
        self._until = {slot: until for slot, until in self._until.items() if now < until}
        return frozenset(self._until)

    def due(self) -> float:
        """When the next one ends."""
        return min(self._until.values(), default=float("inf"))


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
    shared = _buckets.shared_out(weights, sorted(held), previous)
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
