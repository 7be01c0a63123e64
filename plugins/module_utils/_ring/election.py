# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keepalived writes to its FIFO -> the slots that this host holds. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

# What keepalived writes to its FIFO, of each of its VRRP instances: INSTANCE "vpn-12" MASTER 250
_LINE = re.compile(r'^INSTANCE "[a-z0-9_-]+-([0-9]+)" ([A-Z_]+)( [0-9]+)?$')


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
