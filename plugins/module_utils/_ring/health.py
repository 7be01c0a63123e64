# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Health checks of members: their OpenVPN instances, and a command of the administrator.

A member is healthy after C(rise) successful checks in a row, and unhealthy after C(fall) failed ones.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import typing as t

from .._kernel import namespaces
from .._openvpn import processes, supervisor
from .._openvpn.instance import Instance, management_socket
from .._openvpn.management import Busy, Management, ManagementError, NotListening
from .failover import Failover, Member

ACCEPTED = "03"  # SS_CONNECTED, the state of an accepted connection in /proc/net/unix


class MemberCheck(threading.Thread):
    """Checks one member at each interval. C(healthy) is its health."""

    def __init__(
        self, member: Member, failover: Failover, changed: int, healthy: bool, log: t.Callable[[str], None]
    ) -> None:
        """changed: a file descriptor; a byte is written to it when the health changes. healthy: the initial health."""
        super().__init__(name=member.name, daemon=True)
        self.member = member
        self.healthy = healthy
        self._failover = failover
        self._changed = changed
        self._log = log

    def run(self) -> None:
        """Check the member until the process ends."""
        in_a_row, logged = 0, ""
        while True:
            began = time.monotonic()
            problem = self._check()
            in_a_row = in_a_row + 1 if bool(problem) == self.healthy else 0
            if in_a_row >= (self._failover.fall if self.healthy else self._failover.rise):
                self.healthy, in_a_row = not self.healthy, 0
                os.write(self._changed, b".")
                if self.healthy:
                    self._log(f"{self.member.name} is healthy")
                    logged = ""
            if not self.healthy and problem not in ("", logged):
                self._log(f"{self.member.name} is unhealthy: {problem}")
                logged = problem
            time.sleep(max(0.0, began + self._failover.interval - time.monotonic()))

    def _check(self) -> str:
        try:
            return check(self.member, self._failover.timeout)
        except OSError as exc:  # for example, its namespace is being recreated
            return str(exc)


def check(member: Member, timeout: float) -> str:
    """Check a member once: the first problem that is found, as a sentence; "" for none. Raises OSError."""
    for instance in member.instances:
        if problem := check_instance(instance, timeout):
            return problem
    return check_command(member.command, member.netns, timeout) if member.command else ""


def check_instance(instance: Instance, timeout: float) -> str:
    """The problem of an OpenVPN instance, as a sentence; "" for none. timeout: seconds."""
    path = management_socket(instance.name)
    try:
        with Management(path, timeout) as management:
            pid, state = management.pid(), management.state()
    except NotListening:
        return f"{instance.name} is not running"
    except Busy:
        # OpenVPN serves one management client at a time. While an administrator is connected, the age of the status
        # file shows whether the process is alive.
        if not _has_client(instance, path):
            return f"{instance.name} does not answer"
        return "" if supervisor.status_is_fresh(instance) else f"the status file of {instance.name} is too old"
    except ManagementError as exc:
        return f"{instance.name}: {exc}"
    if not state.ready:
        return f"{instance.name} is not ready: {state.name}"
    if not processes.in_netns(pid, instance.netns):
        return f"{instance.name} runs in another namespace than {instance.netns or 'the host'}"
    return ""


def check_command(command: t.Sequence[str], netns: str, timeout: float) -> str:
    """Run the administrator's command in a namespace: its exit status and last line as a sentence; "" for status 0."""
    line = [*(["ip", "netns", "exec", netns] if netns else []), *command]
    pipe = subprocess.PIPE
    try:
        # A process group of its own, so that its children are killed with it.
        with subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            try:
                output, _none = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return f"{command[0]} took longer than {timeout} s"
    except OSError as exc:
        return f"{command[0]}: {exc.strerror}"
    if process.returncode == 0:
        return ""
    lines = output.decode(errors="replace").strip().splitlines()
    return f"{command[0]} exited with status {process.returncode}{': ' + lines[-1] if lines else ''}"


def _has_client(instance: Instance, path: str) -> bool:
    """Whether a client is connected to the management socket.

    The kernel lists the server's end of a connection in the client's namespace, usually that of the host.
    """
    for netns in dict.fromkeys(("", instance.netns)):
        with namespaces.within(netns), open("/proc/thread-self/net/unix", errors="replace") as file:
            if any(words[-1] == path and words[5] == ACCEPTED for words in map(str.split, file)):
                return True
    return False
