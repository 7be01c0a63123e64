# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trials: start OpenVPN with a changed configuration in an isolated network namespace.

It runs as the instance's user. Options for files and sockets of the running instance are overridden: management socket,
status, pid and log file, persistent pool, scripts. A server passes when its initialization is complete. A client cannot
reach its server; it passes when it tries to connect, after it has loaded its options, keys and certificates.
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
from .._params import printed_number
from . import supervisor
from .command_line import OPENVPN, confined_command
from .config import Config, split
from .instance import RUN, Instance
from .supervisor_process import end, spawn, tail, tun_is_closed

COMPLETED = re.compile(r"Initialization Sequence Completed")
CONNECTING = re.compile(r"RESOLVE: |Attempting to establish TCP connection|link remote: |" + COMPLETED.pattern)

_netns_lock = threading.Lock()  # the first 'ip netns add' on a host mounts /run/netns


class TrialFailed(Exception):
    """OpenVPN did not start with the configuration. C(log): its log."""

    def __init__(self, reason: str, log: t.Sequence[str] = ()):
        super().__init__(reason)
        self.log = list(log)


def trial_command(instance: Instance, config: Config, directory: str, binary: str = OPENVPN) -> list[str]:
    """OpenVPN's arguments in a trial. The last of a repeated option wins, but the first of the log options. Pure."""
    args = [binary, "--log-append", log_path(directory)]
    args += ["--nobind"] if instance.role == "client" else []
    args += ["--cd", os.path.dirname(instance.config), "--config", os.path.basename(instance.config)]
    args += ["--verb", "3"]  # the progress is only logged from verbosity 3 on
    args += ["--management", f"{directory}/management.sock", "unix"]
    args += ["--status", f"{directory}/status", "--writepid", f"{directory}/pid"]
    for option in ("ifconfig-pool-persist", "replay-persist"):
        if config.has(option):
            args += [f"--{option}", f"{directory}/{option}"]
    for name, words in {d[0]: d[2:] for d in config.scripts()}.items():
        # auth-user-pass-verify has a second argument, the method
        args += [f"--{name}", "/bin/true", *words]
    return args


def missing_scripts(config: Config, executable: t.Callable[[str], bool]) -> list[str]:
    """Errors for scripts that cannot be executed. The trial overrides them, so it would not detect them."""
    home = os.path.dirname(config.path)
    programs = [(d[0], os.path.join(home, (split(d[1]) or [""])[0])) for d in config.scripts()]
    remedy = "run chmod +x, or use another script"
    return [f"{name}: {path} is not executable; {remedy}" for name, path in programs if not executable(path)]


def has_passed(log: t.Sequence[str], *, serves_many: bool) -> bool:
    """Whether the log shows that a trial has passed. Pure."""
    pattern = COMPLETED if serves_many else CONNECTING
    return any(pattern.search(line) for line in log)


def run_trial(instance: Instance, config: Config, caps: t.Sequence[str], timeout: float) -> None:
    """Try a configuration. C(timeout): seconds until it must have passed. Raises TrialFailed, OSError."""
    missing = missing_scripts(config, lambda path: os.access(path, os.X_OK))
    if missing:
        raise TrialFailed("; ".join(missing))
    with _scratch_netns(instance) as netns, _scratch_directory(instance) as directory:
        own_tun = tun_is_closed(instance.user, instance.group)
        openvpn = trial_command(instance, config, directory, supervisor.openvpn_binary())
        log = os.open(log_path(directory), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
        try:
            os.fchown(log, pwd.getpwnam(instance.user).pw_uid, -1)
            child = spawn(confined_command(instance, caps, openvpn, netns=netns, own_tun=own_tun), log)
        finally:
            os.close(log)
        try:
            until = time.monotonic() + timeout
            while True:
                running = child.poll() is None  # before the log is read, so that no last line is missed
                lines = tail(log_path(directory))
                if has_passed(lines, serves_many=config.serves_many):
                    return
                if not running:
                    raise TrialFailed("OpenVPN does not start with the new configuration", lines)
                if time.monotonic() > until:
                    raise TrialFailed(f"OpenVPN has not started with the new configuration after {timeout:g} s", lines)
                time.sleep(0.05)
        finally:
            end(child.pid, child, lambda: True)


def log_path(directory: str) -> str:
    """The log of a trial. Not in its directory, where the instance's user could replace it by a symbolic link."""
    return f"{directory}.log"


def remove_leftovers(instance: Instance) -> None:
    """Remove the namespace and the directory of a trial whose run was killed."""
    _remove_netns(_netns_of(instance))
    _remove_directory(_directory_of(instance))


@contextlib.contextmanager
def _scratch_netns(instance: Instance) -> t.Iterator[str]:
    name = _netns_of(instance)
    with _netns_lock:
        supervisor.run(["ip", "netns", "add", name])
    try:
        # allow to bind to addresses that exist in the instance's namespace only
        script = 'ip link set dev lo up; for f in /proc/sys/net/ipv[46]/ip_nonlocal_bind; do echo 1 >"$f"; done'
        supervisor.run(["ip", "netns", "exec", name, "sh", "-ec", script])
        yield name
    finally:
        _remove_netns(name)


def _remove_netns(name: str) -> None:
    if not os.path.lexists(namespaces.path(name)):
        return
    if namespaces.exists(name):
        for pid in map(printed_number, supervisor.run(["ip", "netns", "pids", name]).split()):
            if pid:
                end(pid, None, lambda: True)
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
        os.unlink(log_path(path))
