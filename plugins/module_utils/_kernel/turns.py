# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs that apply a desired state take turns: two that repair the same loss would be in each other's way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import typing as t

LOCK = "/run/lock/clustered-openvpn"


@contextlib.contextmanager
def turn(timeout: float) -> t.Iterator[None]:
    """Wait for a turn, at most C(timeout) seconds. Raises TimeoutError, an OSError."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + timeout
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if time.monotonic() > deadline:
                    reason = f"another clustered-openvpn has been changing this host for {timeout:g} s"
                    raise TimeoutError(errno.ETIMEDOUT, reason, LOCK) from exc
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
