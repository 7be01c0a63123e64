# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The interface of the two supervisors (systemd, process), and the records of started instances."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import typing as t

from .. import _files
from .._kernel import command
from .command_line import OPENVPN, STATUS_INTERVAL
from .instance import RUN, Instance, from_dict, to_dict
from .plan import Action, Observed
from .processes import start_ticks

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Supervisor(t.Protocol):
    """Starts, stops and observes the processes of instances."""

    name: str

    def observe(self, instances: t.Sequence[Instance]) -> dict[str, Observed]:
        """Name -> observed state, without C(current)."""

    def drop_in(self, instance: Instance, caps: t.Sequence[str]) -> str | None:
        """The desired text of the instance's drop-in; None without systemd."""

    def definition(self, instance: Instance, caps: t.Sequence[str]) -> str:
        """How the process is started, as text: a change requires a restart."""

    def commands(self, action: Action, observed: Observed, caps: t.Sequence[str]) -> list[str]:
        """An action as shell commands."""

    def apply(self, action: Action, observed: Observed, caps: t.Sequence[str], timeout: float) -> None:
        """Apply an action. C(timeout): seconds for a start. Raises OSError."""

    def pid(self, instance: Instance) -> int:
        """The present pid of an instance; 0 if it has no process."""

    def log(self, instance: Instance, since: float) -> list[str]:
        """The last lines of its log, not older than C(since) (seconds since 1970) if the log has times."""

    def instances(self) -> list[Instance]:
        """All instances of this host that the module manages."""


def has_systemd() -> bool:
    """Whether the host was booted with systemd, as sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


def run(argv: t.Sequence[str], timeout: float = 60) -> str:
    """Run a command in a fixed environment and return its output. Raises CommandError."""
    return command.run(argv, timeout=timeout, env={"PATH": PATH, "LC_ALL": "C.UTF-8"})


def pin_command(instance: Instance, pid: int) -> list[str]:
    """The command that sets the CPUs of a running process; all CPUs if the instance has none."""
    cpus = instance.cpus or range(os.cpu_count() or 1)
    return ["taskset", "-a", "-c", "-p", ",".join(map(str, cpus)), str(pid)]


def openvpn_binary() -> str:
    """The path of OpenVPN; the distribution's if it is not installed (yet)."""
    return shutil.which("openvpn", path=PATH) or OPENVPN


def status_is_fresh(instance: Instance) -> bool:
    """Whether the process has updated its status file recently."""
    with contextlib.suppress(OSError):
        return time.time() - os.stat(instance.status_file).st_mtime < 3 * STATUS_INTERVAL
    return False


# --- records of started instances -------------------------------------------------------------------------------------


def read_record(instance: Instance) -> dict[str, t.Any]:
    """The record of the last start; empty if there is none."""
    try:
        with open(instance.record, encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_record(instance: Instance, pid: int, digest: str) -> None:
    """Save the pid, start time and digest of a process for the next run."""
    os.makedirs(RUN, mode=0o755, exist_ok=True)
    data = {"digest": digest, "pid": pid, "ticks": start_ticks(pid), "instance": to_dict(instance)}
    _files.replace(instance.record, json.dumps(data).encode(), 0o600)


def recorded_cpus(instance: Instance, pid: int, default: tuple[int, ...]) -> tuple[int, ...]:
    """The CPUs of a running process by the record; C(default) if the record is not about this process."""
    record = read_record(instance)
    if (record.get("pid"), record.get("ticks")) == (pid, start_ticks(pid)):
        with contextlib.suppress(KeyError, TypeError):
            return from_dict(record["instance"]).cpus
    return default


def recorded_instances() -> list[Instance]:
    """The instances that have a record."""
    found = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(RUN)):
            if name.endswith(".json"):
                with contextlib.suppress(KeyError, TypeError):
                    found.append(from_dict(read_record(Instance(name[: -len(".json")]))["instance"]))
    return found


def is_current(record: t.Mapping[str, t.Any], pid: int, ticks: int, digest: str, *, unchanged: bool) -> bool:
    """Whether the process was started with the present files. Pure.

    The digest decides if the record is of this process. If systemd started the process (at boot, after a crash), the
    times of the files decide: C(unchanged) since the start.
    """
    if (record.get("pid"), record.get("ticks")) == (pid, ticks):
        return bool(record.get("digest") == digest)
    return unchanged


def newest_change(paths: t.Iterable[str]) -> float:
    """The latest ctime of the files, in seconds since 1970: restoring a backup preserves the mtime only."""
    newest = 0.0
    for path in paths:
        with contextlib.suppress(OSError):
            newest = max(newest, os.stat(path).st_ctime)
    return newest


def existing(paths: t.Iterable[str]) -> tuple[str, ...]:
    """The paths that exist."""
    return tuple(path for path in paths if os.path.lexists(path))
