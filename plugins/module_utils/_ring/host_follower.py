# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claims process of a cluster on one host: buckets of an unhealthy member go to the others, without keepalived.

It begins with the owners in the kernel. When it ends, they stay as they are.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import typing as t

from . import away, claims, follower, health, paths, restarts, siblings
from .failover import Failover

SLOW = 0.2  # seconds after which a check without an answer is doubtful; a healthy server needs some milliseconds


class TimedCheck(health.MemberCheck):
    """A check that also shows whether its result is in doubt."""

    problem = ""
    _began = float("inf")  # of the check that runs

    def doubtful(self) -> bool:
        """Whether the last check failed, or the one that runs takes long."""
        return bool(self.problem) or time.monotonic() - self._began > SLOW

    def _check(self) -> str:
        self._began, was_doubtful = time.monotonic(), self.doubtful()
        problem = "the check ended unexpectedly"
        try:
            problem = super()._check()
        finally:
            was_doubtful = was_doubtful or self.doubtful()
            self.problem, self._began = problem, float("inf")
            if was_doubtful != self.doubtful():
                os.write(self._changed, b".")
        return problem


class HostFollower(follower.Follower):
    """All slots are the host's, each is a bucket, and keepalived does not run."""

    check = TimedCheck

    def __init__(self, failover: Failover, name: str) -> None:
        super().__init__(failover, name)
        home = dict(failover.home or {})
        self._siblings = siblings.Siblings(home, failover.claims.weights)
        self._away = away.Away(paths.away(name))
        present = away.present_owners(failover, paths.away(name))
        restored = bool(self._slots)
        self._slots = siblings.completed(home, present)
        for check in self._checks:
            check.healthy = check.healthy if restored else check.member.name in siblings.starts_healthy(home, present)
        self._away.update(siblings.away(home, self._slots))

    def _share_out(self, healthy: t.Collection[str]) -> claims.Owners:
        now = time.monotonic()
        was_calm = self._siblings.calm(now)
        self._siblings.update(now, [check.member.name for check in self._checks if not check.healthy])
        if was_calm and not self._siblings.calm(now):
            _log("most members became unhealthy at once: no bucket moves and no server is restarted")
        doubtful = [c.member.name for c in self._checks if isinstance(c, TimedCheck) and c.doubtful()]
        owners = self._siblings.owners(now, doubtful, self._slots)
        self._away.update(siblings.away(self._siblings.home, owners))
        due = self._siblings.restarts(now)
        for member in (check.member for check in self._checks if check.member.name in due):
            timeout = self._failover.timeout
            threading.Thread(target=restarts.restart_hung, args=(member, timeout, _log), daemon=True).start()
        return owners

    def _release(self) -> None:
        """All buckets stay where they are."""


def follow(failover: Failover, name: str) -> None:
    """Run the claims process of a cluster, on one host or with keepalived."""
    follower.follow((follower.Follower if failover.home is None else HostFollower)(failover, name))


def _log(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
