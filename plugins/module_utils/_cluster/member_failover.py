# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings of failover among the members of one host, where it is possible. Pure."""

from __future__ import annotations

from .._state.cluster import Failover
from .cluster import STEER
from .engines import choice
from .request import Request

NO_PLACEHOLDERS = "0.0.0.0/32"  # keepalived does not run
# A member without answer is unhealthy after 1.6 s at the earliest, and 2.3 s at the latest.
INTERVAL, TIMEOUT, FALL = 0.7, 0.8, 2
RISE = 7  # healthy for five seconds


def settings(request: Request) -> Failover | None:
    """The settings; None if other hosts or an external engine decide, or if the host has no map of owners."""
    if request.shared or not request.member_failover or request.claims != "exact":
        return None
    if request.distribution != STEER or not choice.moves_buckets(request.engine) or request.uplink.host_is_member:
        return None
    if len(request.members) < 2 or not request.instances:
        return None
    return Failover(
        placeholders=NO_PLACEHOLDERS,
        slots=request.total_nodes,
        linger=0.0,
        command=(),
        interval=INTERVAL,
        timeout=TIMEOUT,
        fall=FALL,
        rise=RISE,
        keepalived=False,
    )
