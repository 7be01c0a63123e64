# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""sd_notify(3): the state of this process, for systemd."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(text: str) -> None:
    """Send C(READY=1), C(STATUS=…) or C(WATCHDOG=1), if systemd has started this process."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # systemd may be executing itself again: no reason to end
        with contextlib.closing(sock), contextlib.suppress(OSError):
            sock.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)
