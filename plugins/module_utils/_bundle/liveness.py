# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a tunnel is alive, from the probes that came out of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

PER_TIMEOUT = 8  # datagrams in the time after which a tunnel is dead
SLOWEST = 0.5  # seconds between two of them
RISE = 2  # datagrams by which a dead tunnel is known to be back


@dataclass
class Health:
    """What is known of a tunnel. Times are of the monotonic clock. Pure."""

    timeout: float
    heard: float = float("-inf")  # when something came out of it last
    good: bool = False  # whether the other end hears us, as it said last
    theirs: float = 0.0  # the other end's time, as it said last
    streak: int = 0  # datagrams since it was dead that answer one of ours
    live: bool = False

    def received(self, now: float, hears_us: bool, theirs: float, ours: float) -> None:
        """A datagram of the other end, with its time, and the time of ours that it has read last."""
        answers = hears_us and 0 <= now - ours < self.timeout
        self.streak = self.streak + 1 if answers else 0
        self.heard, self.good, self.theirs = now, hears_us, theirs

    def carried(self, now: float) -> None:
        """Other packets came out of it."""
        self.heard = now

    def hears(self, now: float) -> bool:
        """Whether anything comes out of it."""
        return now - self.heard < self.timeout

    def judge(self, now: float) -> bool:
        """Whether it is to be used."""
        alive = self.hears(now) and self.good
        if not alive:
            self.streak = 0
        self.live = alive and (self.live or self.streak >= RISE)
        return self.live


def interval(timeout: float) -> float:
    """Seconds between two datagrams."""
    return min(SLOWEST, timeout / PER_TIMEOUT)
