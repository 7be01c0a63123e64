# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Health checks of members: their OpenVPN instances, and a command of the administrator.

A member is healthy after C(rise) successful checks in a row, and unhealthy after C(fall) failed ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
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

# An accepted connection in /proc/net/unix: SS_CONNECTED, and the path of the socket. The name of an abstract socket,
# which any user chooses, may contain line feeds: lines of another form are ignored.
_ACCEPTED = re.compile(rb"^[0-9a-f]+: [0-9A-F]{8} [0-9A-F]{8} [0-9A-F]{8} 0001 03 +[0-9]+ (.+)$", re.M)
OVERDUE = 2.0  # seconds beyond its longest duration after which a round of checks is overdue
MAX_OUTPUT = 4096  # bytes of a command's output that are kept
GONE = 0.2  # seconds for a killed command to end


class MemberCheck(threading.Thread):
    """Checks one member at each interval. C(healthy) is its health."""

    def __init__(
        self, member: Member, failover: Failover, changed: int, healthy: bool, log: t.Callable[[str], None]
    ) -> None:
        """changed: a file descriptor; a byte is written to it when the health changes. healthy: the initial health."""
        super().__init__(name=member.name, daemon=True)
        self.member = member
        self.healthy = healthy
        self.finished = time.monotonic()  # when the last round ended
        self._failover = failover
        self._changed = changed
        self._log = log
        self._checker = Checker()
        self._in_a_row, self._problem = 0, ""

    def run(self) -> None:
        """Check the member until the process ends. Whatever fails, the next round follows."""
        while True:
            began = time.monotonic()
            try:
                self.round()
            except Exception as exc:  # pylint: disable=broad-exception-caught  # e.g. the journal cannot be written
                self._problem = f"{type(exc).__name__}: {exc}"
            self.finished = time.monotonic()
            time.sleep(max(0.0, began + self._failover.interval - time.monotonic()))

    def round(self) -> None:
        """Check the member once."""
        problem = self._check()
        self._in_a_row = self._in_a_row + 1 if bool(problem) == self.healthy else 0
        if self._in_a_row >= (self._failover.fall if self.healthy else self._failover.rise):
            self.healthy, self._in_a_row = not self.healthy, 0
            with contextlib.suppress(BlockingIOError):  # the pipe is full: its reader wakes up anyway
                os.write(self._changed, b".")
            if self.healthy:
                self._problem = ""
                self._log(f"{self.member.name} is healthy")
        if not self.healthy and problem not in ("", self._problem):
            self._problem = problem
            self._log(f"{self.member.name} is unhealthy: {problem}")

    def overdue(self, now: float) -> bool:
        """Whether the current round takes longer than its timeouts allow, or the thread has ended."""
        checks = len(self.member.instances) + bool(self.member.command)
        longest = self._failover.interval + checks * (self._failover.timeout + GONE)
        return now - self.finished > longest + OVERDUE

    def _check(self) -> str:
        """The first problem that is found; a check that fails in any way is one."""
        try:
            return self._checker(self.member, self._failover.timeout)
        except OSError as exc:  # for example, its namespace is being recreated
            return str(exc) or type(exc).__name__
        except Exception as exc:  # pylint: disable=broad-exception-caught
            return f"{type(exc).__name__}: {exc}"


class Checker:
    """Checks a member. It remembers a command that could not be ended: there is never more than one of them."""

    def __init__(self) -> None:
        self._stuck: subprocess.Popen[bytes] | None = None

    def __call__(self, member: Member, timeout: float) -> str:
        """The first problem that is found, as a sentence; "" for none. Raises OSError."""
        for instance in member.instances:
            if problem := check_instance(instance, timeout):
                return problem
        return self.command(member.command, member.netns, timeout) if member.command else ""

    def command(self, command: t.Sequence[str], netns: str, timeout: float) -> str:
        """Run the administrator's command in a namespace: its status and last line as a sentence; "" for status 0."""
        if self._stuck is not None and self._stuck.poll() is None:
            return f"{command[0]} could not be ended; it still runs as process {self._stuck.pid}"
        self._stuck = None
        line = [*(["ip", "netns", "exec", netns] if netns else []), *command]
        pipe = subprocess.PIPE
        try:
            # A process group of its own, so that its children are killed with it. Not "with", which waits for the end.
            process = subprocess.Popen(  # pylint: disable=consider-using-with
                line, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as exc:
            return f"{command[0]}: {exc.strerror}"
        until = time.monotonic() + timeout
        try:
            with t.cast(t.IO[bytes], process.stdout) as stdout:
                output = _tail(stdout.fileno(), until)
            status = process.wait(max(0.0, until - time.monotonic()))
        except (subprocess.TimeoutExpired, TimeoutError):
            self._end(process)
            return f"{command[0]} took longer than {timeout} s"
        if status == 0:
            return ""
        lines = output.decode(errors="replace").strip().splitlines()
        return f"{command[0]} exited with status {status}{': ' + lines[-1] if lines else ''}"

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a command and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(GONE)
        except subprocess.TimeoutExpired:  # for example, it waits for a disk
            self._stuck = process


def _tail(descriptor: int, until: float) -> bytes:
    """The end of a command's output, of any length. Raises TimeoutError."""
    output = b""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        left = until - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return output
        output = (output + chunk)[-MAX_OUTPUT:]


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


def _has_client(instance: Instance, path: str) -> bool:
    """Whether a client is connected to the management socket.

    The kernel lists the server's end of a connection in the client's namespace, usually that of the host.
    """
    for netns in dict.fromkeys(("", instance.netns)):
        with namespaces.within(netns), open("/proc/thread-self/net/unix", "rb") as file:
            if os.fsencode(path) in accepted(file.read()):
                return True
    return False


def accepted(table: bytes) -> set[bytes]:
    """C(/proc/net/unix): paths of sockets that have an accepted connection. Pure."""
    return set(_ACCEPTED.findall(table))
