# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a tunnel is alive, from the packets and probes that come out of it. Pure.

A live tunnel dies when nothing has come out of it for the timeout, or when a probe reports that the other end receives
nothing. It is alive again after RISE probes that answer one of ours within the timeout: the packets that a frozen
process had queued come out late, and are no evidence that the tunnel works.
"""

from __future__ import annotations

from dataclasses import dataclass

from .probe import Probe

RISE = 2  # answers in a row after which a dead tunnel is alive


@dataclass
class Liveness:
    """The state of one tunnel. Times are seconds of the monotonic clock."""

    timeout: float
    last_received: float = float("-inf")  # when the latest packet came out of the tunnel
    peer_receiving: bool = False  # as the latest probe reported
    peer_time: float = 0.0  # the other end's clock in the latest probe
    answers: int = 0  # probes in a row that answer one of ours, since the tunnel died
    live: bool = False

    def probe_received(self, now: float, probe: Probe) -> None:
        """A probe came out of the tunnel."""
        is_answer = probe.receiving and 0 <= now - probe.echo < self.timeout
        self.answers = self.answers + 1 if is_answer else 0
        self.last_received, self.peer_receiving, self.peer_time = now, probe.receiving, probe.sent

    def packets_received(self, now: float) -> None:
        """Any packets came out of the tunnel: a busy tunnel may lose probes."""
        self.last_received = now

    def receiving(self, now: float) -> bool:
        """Whether packets come out of the tunnel."""
        return now - self.last_received < self.timeout

    def update(self, now: float) -> bool:
        """Decide whether the tunnel is alive, and return it."""
        healthy = self.receiving(now) and self.peer_receiving
        if not healthy:
            self.answers = 0
        self.live = healthy and (self.live or self.answers >= RISE)
        return self.live
