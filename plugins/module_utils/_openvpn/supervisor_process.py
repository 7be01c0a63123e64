# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Supervisor for hosts without systemd: plain processes, found by their record and command line."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import time
import typing as t

from .._kernel.command import CommandError
from . import processes, supervisor
from .command_line import confined_command, openvpn_command
from .instance import LOG, RUN, STATE, Instance
from .plan import Action, Observed

TUN = "/dev/net/tun"
STOP_TIMEOUT = 10  # seconds; a server with explicit-exit-notify notifies its clients for one or two


class ProcessSupervisor:
    """Starts processes that outlive the module, and stops them by pid."""

    name = "process"

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._log_start: dict[str, int] = {}
        self._binary = supervisor.openvpn_binary()

    # --- observe ------------------------------------------------------------------------------------------------------

    def observe(self, instances: t.Sequence[Instance]) -> dict[str, Observed]:
        pids = {i.name: self._recorded_pid(i) for i in instances}
        pids.update(processes.find_processes([i for i in instances if not pids[i.name]]))
        return {
            i.name: Observed(
                pid=pids[i.name],
                active=bool(pids[i.name]),
                in_netns=bool(pids[i.name]) and processes.in_netns(pids[i.name], i.netns),
                files=supervisor.existing((i.run_dir, i.record, i.state_dir, i.log)),
            )
            for i in instances
        }

    def _recorded_pid(self, instance: Instance) -> int:
        record = supervisor.read_record(instance)
        pid, ticks = record.get("pid", 0), record.get("ticks", 0)
        if not isinstance(pid, int) or pid < 2 or not ticks or processes.start_ticks(pid) != ticks:
            return 0
        return pid if processes.runs_instance(processes.command_line(pid), instance) else 0

    def pid(self, instance: Instance) -> int:
        child = self._children.get(instance.name)
        if child:
            return child.pid if child.poll() is None else 0
        return self.observe([instance])[instance.name].pid

    def log(self, instance: Instance, since: float) -> list[str]:
        del since  # start() has stored where the log of this start begins
        return tail(instance.log, self._log_start.get(instance.name, 0))

    def instances(self) -> list[Instance]:
        return supervisor.recorded_instances()

    # --- describe -----------------------------------------------------------------------------------------------------

    def drop_in(self, instance: Instance, caps: t.Sequence[str]) -> str | None:
        del instance, caps
        return None

    def definition(self, instance: Instance, caps: t.Sequence[str]) -> str:
        # without own_tun: a change of the permissions of /dev/net/tun requires no restart
        return shlex.join(self._command(instance, caps, own_tun=False))

    def _command(self, instance: Instance, caps: t.Sequence[str], *, own_tun: bool) -> list[str]:
        openvpn = openvpn_command(instance, systemd=False, binary=self._binary)
        return confined_command(instance, caps, openvpn, netns=instance.netns, own_tun=own_tun)

    def command(self, instance: Instance, caps: t.Sequence[str]) -> list[str]:
        return self._command(instance, caps, own_tun=tun_is_closed(instance.user, instance.group))

    def commands(self, action: Action, observed: Observed, caps: t.Sequence[str]) -> list[str]:
        i = action.target
        lines = []
        if action.op in ("stop", "restart") and observed.pid:
            lines.append(f"kill {observed.pid}")
        if action.op in ("start", "restart"):
            account = f"-o {shlex.quote(i.user)} -g {shlex.quote(i.group)}"
            lines.append(f"install -d {LOG}")
            lines.append(f"install -d -m 0750 {account} {i.run_dir} {i.state_dir}")
            lines.append(f"setsid {shlex.join(self.command(i, caps))} </dev/null >>{i.log} 2>&1 &")
        if action.op == "pin":
            lines.append(shlex.join(supervisor.pin_command(i, observed.pid)))
        if action.op == "remove":
            lines.append(f"rm -rf {' '.join(observed.files)}")
        return lines

    # --- apply --------------------------------------------------------------------------------------------------------

    def apply(self, action: Action, observed: Observed, caps: t.Sequence[str], timeout: float) -> None:
        del timeout
        if action.op in ("stop", "restart") or (action.op == "remove" and observed.pid):
            self.stop(action.target, observed.pid)
        if action.op in ("start", "restart"):
            self.start(action.target, caps)
        if action.op == "pin":
            supervisor.run(supervisor.pin_command(action.target, observed.pid))
        if action.op == "remove":
            remove(observed.files)

    def start(self, instance: Instance, caps: t.Sequence[str]) -> None:
        user, group = pwd.getpwnam(instance.user).pw_uid, grp.getgrnam(instance.group).gr_gid
        os.makedirs(LOG, mode=0o755, exist_ok=True)
        os.makedirs(RUN, mode=0o755, exist_ok=True)
        os.makedirs(STATE, mode=0o755, exist_ok=True)
        for directory in (instance.run_dir, instance.state_dir):
            own_directory(directory, user, group)
        log = os.open(instance.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            os.fchown(log, user, group)
            os.fchmod(log, 0o640)
            self._log_start[instance.name] = os.fstat(log).st_size
            self._children[instance.name] = spawn(self.command(instance, caps), log)
        finally:
            os.close(log)

    def stop(self, instance: Instance, pid: int) -> None:
        child = self._children.pop(instance.name, None)
        if child:
            pid = child.pid
        end(pid, child, lambda: processes.runs_instance(processes.command_line(pid), instance))
        for leftover in (instance.pid_file, instance.status_file, instance.management):
            with contextlib.suppress(OSError):
                os.unlink(leftover)


# --- helpers, also used by trials -------------------------------------------------------------------------------------


def spawn(command: t.Sequence[str], log: int) -> subprocess.Popen[bytes]:
    """Start a process in a new session; it inherits no open file but its log."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd="/",
        env={"PATH": supervisor.PATH},
        start_new_session=True,
        umask=0o027,
    )


def end(pid: int, child: subprocess.Popen[bytes] | None, is_expected: t.Callable[[], bool]) -> None:
    """End a process by SIGTERM, then SIGKILL. Raises CommandError if it survives both.

    C(is_expected): whether the pid still belongs to the process. C(child): the process, if this module started it. A
    zombie counts as ended.
    """
    if child and child.poll() is not None:  # reaped: the pid may have been reused
        return
    ticks = processes.start_ticks(pid) if pid > 1 else 0
    for signal_number, seconds in ((signal.SIGTERM, STOP_TIMEOUT), (signal.SIGKILL, 5)):
        if not ticks or processes.start_ticks(pid) != ticks or not is_expected():
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal_number)
        until = time.monotonic() + seconds
        while processes.start_ticks(pid) == ticks and time.monotonic() < until:
            time.sleep(0.02)
    if ticks and processes.start_ticks(pid) == ticks and is_expected():
        raise CommandError(["kill", "-KILL", str(pid)], "the process did not end within 5 s")
    if child:
        child.wait(timeout=5)


def own_directory(path: str, user: int, group: int) -> None:
    """Create a directory with mode 0750 that belongs to a user and group. Never follows a symbolic link."""
    os.makedirs(path, mode=0o750, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, user, group)
        os.fchmod(descriptor, 0o750)
    finally:
        os.close(descriptor)


def remove(paths: t.Iterable[str]) -> None:
    """Remove files and directories, and their parent directories if these are empty."""
    for path in paths:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    for parent in {os.path.dirname(path) for path in paths}:
        with contextlib.suppress(OSError):
            os.rmdir(parent)


def tun_is_closed(user: str, group: str) -> bool:
    """Whether /dev/net/tun exists but the user cannot open it. Its mode is 0666, in some containers 0600."""
    try:
        node = os.stat(TUN)
        account = pwd.getpwnam(user)
        groups = {grp.getgrnam(group).gr_gid, *os.getgrouplist(user, account.pw_gid)}
    except (OSError, KeyError):
        return False
    if account.pw_uid == node.st_uid:
        return node.st_mode & 0o600 != 0o600
    if node.st_gid in groups:
        return node.st_mode & 0o060 != 0o060
    return node.st_mode & 0o006 != 0o006


def tail(path: str, start: int = 0) -> list[str]:
    """The last lines of a log. C(start): offset in bytes before which lines are left out."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - 65536))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()
