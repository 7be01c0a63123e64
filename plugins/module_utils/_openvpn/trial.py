# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A trial: a changed configuration is started by the real binary, where it can disturb nobody.

It runs in a network namespace of its own that has no way out, as the instance's user, with everything that a
running instance owns overridden: management socket, status, pid and log files, pool persistence, scripts.
A server has passed when its initialisation is complete. A client cannot reach its server from there: it has passed
when it tries to, which it does after it has read its options, keys and certificates.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import shutil
import threading
import time
import typing as t

from .._kernel import namespaces
from . import supervisor
from .command_line import confined_command
from .config import Config, split
from .instance import OPENVPN, RUN, Instance
from .supervisor_process import end, spawn, tail, tun_is_closed

COMPLETED = re.compile(r"Initialization Sequence Completed")
REACHING_OUT = re.compile(r"RESOLVE: |Attempting to establish TCP connection|link remote: |" + COMPLETED.pattern)

_one_at_a_time = threading.Lock()  # the first 'ip netns add' on a host prepares /run/netns


class TrialFailed(Exception):
    """The binary did not take the configuration. C(lines): what it said."""

    def __init__(self, reason: str, lines: t.Sequence[str] = ()):
        super().__init__(reason)
        self.lines = list(lines)


def trial_command(instance: Instance, config: Config, directory: str, binary: str = OPENVPN) -> list[str]:
    """OpenVPN's arguments in a trial. Pure. Of a repeated option the last counts, of log options the first."""
    args = [binary, "--log-append", log_of(directory)]
    args += ["--nobind"] if instance.role == "client" else []
    args += ["--cd", os.path.dirname(instance.config), "--config", os.path.basename(instance.config)]
    args += ["--verb", "3"]  # less would not show how far it has come
    args += ["--management", f"{directory}/management.sock", "unix"]
    args += ["--status", f"{directory}/status", "--writepid", f"{directory}/pid"]
    for option in ("ifconfig-pool-persist", "replay-persist"):
        if config.has(option):
            args += [f"--{option}", f"{directory}/{option}"]
    for name, words in {d[0]: d[2:] for d in config.scripts()}.items():
        # auth-user-pass-verify has a second word, the method
        args += [f"--{name}", "/bin/true", *words]
    return args


def missing_scripts(config: Config, executable: t.Callable[[str], bool]) -> list[str]:
    """Scripts that cannot be run: the trial, which overrides them, would not find that out."""
    home = os.path.dirname(config.path)
    programs = [(d[0], os.path.join(home, (split(d[1]) or [""])[0])) for d in config.scripts()]
    return [f"{name}: {path} is not executable" for name, path in programs if not executable(path)]


def verdict(lines: t.Sequence[str], *, serves_many: bool) -> bool:
    """Whether the log shows a passed trial. Pure."""
    wanted = COMPLETED if serves_many else REACHING_OUT
    return any(wanted.search(line) for line in lines)


def run_trial(instance: Instance, config: Config, caps: t.Sequence[str], timeout: float) -> None:
    """Try the configuration; return if it is good."""
    missing = missing_scripts(config, lambda path: os.access(path, os.X_OK))
    if missing:
        raise TrialFailed("; ".join(missing))
    binary = shutil.which("openvpn", path=supervisor.PATH) or OPENVPN
    with _scratch_netns(instance) as netns, _scratch_directory(instance) as directory:
        own_tun = tun_is_closed(instance.user, instance.group)
        openvpn = trial_command(instance, config, directory, binary)
        log = os.open(log_of(directory), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
        try:
            os.fchown(log, pwd.getpwnam(instance.user).pw_uid, -1)
            child = spawn(confined_command(instance, caps, openvpn, netns=netns, own_tun=own_tun), log)
        finally:
            os.close(log)
        try:
            until = time.monotonic() + timeout
            while True:
                running = child.poll() is None  # asked first: what it said last is then in the log
                lines = tail(log_of(directory))
                if verdict(lines, serves_many=config.serves_many):
                    return
                if not running:
                    raise TrialFailed("the new configuration does not start", lines)
                if time.monotonic() > until:
                    raise TrialFailed(f"the new configuration has not started after {timeout:g} s", lines)
                time.sleep(0.05)
        finally:
            end(child.pid, child, lambda: True)


def log_of(directory: str) -> str:
    """Beside the trial's directory, not in it: that one is the user's, who could put a link in the log's place."""
    return f"{directory}.log"


def remove_leftovers(instance: Instance) -> None:
    """What the trial of a run that was killed has left behind."""
    _remove_netns(_netns_of(instance))
    _remove_directory(_directory_of(instance))


@contextlib.contextmanager
def _scratch_netns(instance: Instance) -> t.Iterator[str]:
    name = _netns_of(instance)
    with _one_at_a_time:
        supervisor.run(["ip", "netns", "add", name])
    try:
        # addresses of the live namespace do not exist here, and may be bound all the same
        script = 'ip link set dev lo up; for f in /proc/sys/net/ipv[46]/ip_nonlocal_bind; do echo 1 >"$f"; done'
        supervisor.run(["ip", "netns", "exec", name, "sh", "-ec", script])
        yield name
    finally:
        _remove_netns(name)


def _remove_netns(name: str) -> None:
    if not os.path.lexists(namespaces.path(name)):
        return
    if namespaces.exists(name):
        for pid in supervisor.run(["ip", "netns", "pids", name]).split():
            end(int(pid), None, lambda: True)
    supervisor.run(["ip", "netns", "del", name])


@contextlib.contextmanager
def _scratch_directory(instance: Instance) -> t.Iterator[str]:
    os.makedirs(RUN, mode=0o755, exist_ok=True)
    path = _directory_of(instance)
    os.mkdir(path, 0o700)
    try:
        os.chown(path, pwd.getpwnam(instance.user).pw_uid, grp.getgrnam(instance.group).gr_gid)
        yield path
    finally:
        _remove_directory(path)


def _netns_of(instance: Instance) -> str:
    return f"openvpn-trial-{instance.name}"


def _directory_of(instance: Instance) -> str:
    return f"{RUN}/.trial-{instance.name}"


def _remove_directory(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(log_of(path))
