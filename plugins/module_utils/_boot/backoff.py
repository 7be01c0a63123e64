# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the keeper may repair a step again that another program keeps undoing. Pure; times are of a monotonic clock."""

from __future__ import annotations

import typing as t

AT_ONCE = 5  # repairs of one step within the window that are not delayed
WINDOW = 60.0  # seconds
FIRST, LONGEST = 2.0, 60.0  # seconds between two repairs, then twice as many, and at most


def identity(step: str) -> str:
    """A step without its elements: the same piece of the desired state, whichever bucket it is about."""
    lines = step.splitlines()
    line = lines[1] if len(lines) > 1 and lines[0].endswith("<<'EOF'") else lines[0]
    return line.partition("{")[0].strip()


class Backoff:
    """The repairs of each step, and how long to wait for the next one."""

    def __init__(self) -> None:
        self._repairs: dict[str, list[float]] = {}
        self._delays: dict[str, float] = {}

    def wait(self, steps: t.Iterable[str], now: float) -> float:
        """Seconds until the steps may be taken; 0 if one of them may be taken now.

        Steps depend on each other, so all are taken or none. A step that is not undone is not delayed by one that is.
        """
        return min((self._left(one, now) for one in {identity(step) for step in steps}), default=0.0)

    def repaired(self, steps: t.Iterable[str], now: float) -> None:
        """Record that the steps are taken."""
        for one in {identity(step) for step in steps}:
            before = self._repairs.get(one, [])
            self._repairs[one] = [*(when for when in before if now - when < WINDOW), now]
            if before and now - before[-1] >= max(WINDOW, 2 * self._delays.get(one, 0.0)):  # it has lasted
                self._delays.pop(one, None)
            if len(self._repairs[one]) > AT_ONCE or one in self._delays:
                self._delays[one] = min(LONGEST, 2 * self._delays[one] if one in self._delays else FIRST)
        self._repairs = {one: when for one, when in self._repairs.items() if now - when[-1] < 10 * LONGEST}

    def slowest(self, steps: t.Iterable[str]) -> tuple[str, float]:
        """The step with the longest delay, and that delay."""
        return max(((one, self._delays.get(one, 0.0)) for one in sorted(set(map(identity, steps)))), key=lambda x: x[1])

    def _left(self, one: str, now: float) -> float:
        if one not in self._delays or one not in self._repairs:
            return 0.0
        return max(0.0, self._repairs[one][-1] + self._delays[one] - now)


class Pace:
    """How soon the next comparison with the desired state may follow; the more in vain, the later."""

    SHORTEST, SLOWEST, FORGET = 0.1, 1.0, 5.0  # seconds

    def __init__(self) -> None:
        self._last = -self.FORGET
        self._gap = 0.0

    def next(self) -> float:
        """The earliest time of the next comparison."""
        return self._last + self._gap

    def compared(self, now: float, *, in_vain: bool) -> None:
        """Record a comparison. in_vain: it has found nothing to repair."""
        recent = now - self._last < self.FORGET
        self._gap = min(self.SLOWEST, max(self.SHORTEST, 2 * self._gap)) if in_vain and recent else self.SHORTEST
        self._last = now
