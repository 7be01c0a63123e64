# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Readiness: wait until the management socket of an instance reports C(CONNECTED,SUCCESS)."""

from __future__ import annotations

import time
import typing as t

from .managed import ManagedInstance
from .management import Busy, Management, ManagementError, State
from .supervisor import Supervisor, read_record, status_is_fresh, write_record
from .trial import COMPLETED

MANAGEMENT_TIMEOUT = 1.0  # seconds for one conversation
BUSY_ATTEMPTS = 3
# A point-to-point end in one of these states has loaded its files and opened its socket.
WAITING_FOR_PEER = ("ASSIGN_IP", "WAIT", "AUTH", "RECONNECTING")


class NotReady(Exception):
    """An instance did not become ready. C(log): the end of its log."""

    def __init__(self, reason: str, log: t.Sequence[str] = ()):
        super().__init__(reason)
        self.log = list(log)


def wait_until_ready(managed: ManagedInstance, supervisor: Supervisor, since: float, timeout: float) -> None:
    """Wait for the process that was started at C(since). C(timeout) in seconds. Raises NotReady."""
    deadline = time.monotonic() + timeout
    managed.pid = supervisor.pid(managed.instance)
    write_record(managed.instance, managed.pid, managed.digest)
    delay = 0.05
    while True:
        obstacle = _obstacle(managed, supervisor, since)
        if not obstacle:
            return
        if time.monotonic() > deadline:
            raise NotReady(f"not ready after {timeout:g} s: {obstacle}", supervisor.log(managed.instance, since))
        time.sleep(delay)
        delay = min(delay * 1.5, 0.5)


def _obstacle(managed: ManagedInstance, supervisor: Supervisor, since: float) -> str:
    """Why the instance is not ready yet; "" if it is ready. Raises NotReady if waiting cannot help."""
    pid = supervisor.pid(managed.instance)
    if not pid or pid != managed.pid:
        raise NotReady("its process ended before it was ready", supervisor.log(managed.instance, since))
    try:
        with Management(managed.instance.management, MANAGEMENT_TIMEOUT) as management:
            if management.pid() != pid:
                return "its management socket belongs to another process"
            state = management.state()
    except Busy as exc:  # another client is connected; the log reports readiness, too
        if any(COMPLETED.search(line) for line in supervisor.log(managed.instance, since)):
            return ""
        return str(exc)
    except ManagementError as exc:
        return str(exc)
    if _is_ready(managed, state):
        return ""
    if state.name == "CONNECTED":
        raise NotReady(f"its state is CONNECTED,{state.detail}", supervisor.log(managed.instance, since))
    return f"its state is {state.name},{state.detail}"


def check_running(
    managed: ManagedInstance, supervisor: Supervisor, timeout: float, warn: t.Callable[[str], None]
) -> None:
    """Check that an instance without actions is ready. Sets its error after C(timeout) seconds, changes nothing."""
    if read_record(managed.instance).get("pid") != managed.pid:
        write_record(managed.instance, managed.pid, managed.digest)
    deadline = time.monotonic() + timeout
    busy = 0
    obstacle = ""
    while time.monotonic() < deadline:
        try:
            with Management(managed.instance.management, MANAGEMENT_TIMEOUT) as management:
                state = management.state()
            if _is_ready(managed, state):
                return
            obstacle = f"its state is {state.name},{state.detail}"
        except Busy as exc:
            obstacle = str(exc)
            busy += 1
            if busy >= BUSY_ATTEMPTS and status_is_fresh(managed.instance):
                warn(f"{managed.name}: {exc}; its status file is fresh, so it is assumed to be ready")
                return
        except ManagementError as exc:
            obstacle = str(exc)
            if not supervisor.pid(managed.instance):
                break
        time.sleep(0.2)
    managed.fail(f"running, but not ready: {obstacle}", supervisor.log(managed.instance, 0))


def _is_ready(managed: ManagedInstance, state: State) -> bool:
    """Connected; for a point-to-point end also: waiting for its peer or trying to reach it."""
    return state.ready or bool(managed.config and managed.config.point_to_point and state.name in WAITING_FOR_PEER)
