# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The election: lines of keepalived's FIFO, and its placeholder addresses -> the slots of this host. Pure.

Times are those of a monotonic clock, in seconds.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from . import vrrp

FOREVER = float("inf")


@dataclass
class Election:
    """The slots for which this host is MASTER."""

    linger: float
    _differing: frozenset[int] = frozenset()  # slots whose address contradicted the FIFO at the last comparison
    _until: dict[int, float] = field(default_factory=dict)  # slot -> the time when this host releases it

    def read_line(self, line: str, now: float) -> None:
        """Process a line of the FIFO. Lines that are not about an instance are ignored."""
        parsed = vrrp.parse_state(line)
        if parsed is None:
            return
        slot, state = parsed
        if state == "MASTER":
            self._until[slot] = FOREVER
        elif state in ("BACKUP", "STOP") and slot in self._until:
            # The new master accepts the packets already, or is about to.
            self._until[slot] = min(self._until[slot], now + self.linger)
        elif state in ("FAULT", "DELETED"):
            self._until.pop(slot, None)

    def compare(self, slots: t.Collection[int]) -> None:
        """Correct the slots by those whose placeholder address keepalived has added.

        After a reload, keepalived writes no line for instances that stay MASTER. A difference counts when two
        comparisons in a row find it: address and line do not arrive at the same moment.
        """
        differing = {slot for slot, until in self._until.items() if until == FOREVER} ^ set(slots)
        for slot in differing & self._differing:
            if slot in slots:
                self._until[slot] = FOREVER
            else:
                self._until.pop(slot, None)
        self._differing = frozenset(differing)

    def restore(self, slots: t.Iterable[int]) -> None:
        """Start with the slots of the process before."""
        self._until.update(dict.fromkeys(slots, FOREVER))

    def clear(self) -> None:
        """Release all slots: keepalived has exited."""
        self._until.clear()

    def held(self, now: float) -> frozenset[int]:
        """The slots of this host; without those whose release time has passed."""
        self._until = {slot: until for slot, until in self._until.items() if now < until}
        return frozenset(self._until)

    def next_release(self) -> float:
        """When the next slot is released; infinity for none."""
        return min(self._until.values(), default=FOREVER)
