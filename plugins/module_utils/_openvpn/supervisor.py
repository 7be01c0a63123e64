# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What both supervisors share: the interface, the look at processes, and the record of what was started."""

from __future__ import annotations

import contextlib
import json
import os
import time
import typing as t

from .. import _files
from .._kernel import command
from .command_line import STATUS_INTERVAL
from .instance import RUN, Instance, Observed, Step, from_dict, to_dict
from .processes import start_ticks

LOG_LINES = 15
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Supervisor(t.Protocol):
    """How instances are kept running."""

    name: str

    def observe(self, instances: t.Sequence[Instance]) -> dict[str, Observed]:
        """Look; by the instance's name. C(current) is not its business."""

    def drop_in(self, instance: Instance, caps: t.Sequence[str]) -> str | None:
        """The drop-in that the instance ought to have; None where there are no units."""

    def launch(self, instance: Instance, caps: t.Sequence[str]) -> str:
        """What decides how the process is started, as text: part of the digest."""

    def commands(self, step: Step, observed: Observed, caps: t.Sequence[str]) -> list[str]:
        """A step as an administrator would type it."""

    def apply(self, step: Step, observed: Observed, caps: t.Sequence[str], timeout: float) -> None:
        """Do it."""

    def pid(self, instance: Instance) -> int:
        """The process of an instance now, 0 if there is none."""

    def log(self, instance: Instance, since: float) -> list[str]:
        """Its last log lines, none older than C(since) where the log has times."""

    def known(self) -> list[Instance]:
        """Every instance on this host that the module made."""


def has_systemd() -> bool:
    """sd_booted(3)"""
    return os.path.isdir("/run/systemd/system")


def run(argv: t.Sequence[str], timeout: float = 60) -> str:
    """Run a command of the system in a fixed environment, whatever the caller's is. Raises CommandError."""
    return command.run(argv, timeout=timeout, env={"PATH": PATH, "LC_ALL": "C.UTF-8"})


# --- processes --------------------------------------------------------------------------------------------------------


def status_is_fresh(instance: Instance) -> bool:
    """Whether it has written its status file a moment ago."""
    with contextlib.suppress(OSError):
        return time.time() - os.stat(instance.status_file).st_mtime < 3 * STATUS_INTERVAL
    return False


# --- the record of what was started -----------------------------------------------------------------------------------


def read_record(instance: Instance) -> dict[str, t.Any]:
    try:
        with open(instance.record, encoding="utf-8") as file:
            data = json.load(file)
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def write_record(instance: Instance, pid: int, digest: str) -> None:
    """What was started, for the next run."""
    os.makedirs(RUN, mode=0o755, exist_ok=True)
    data = {"digest": digest, "pid": pid, "ticks": start_ticks(pid), "instance": to_dict(instance)}
    _files.replace(instance.record, json.dumps(data).encode(), 0o600)


def recorded_instances() -> list[Instance]:
    found = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(RUN)):
            if name.endswith(".json"):
                with contextlib.suppress(KeyError, TypeError):
                    found.append(from_dict(read_record(Instance(name[: -len(".json")]))["instance"]))
    return found


def is_current(record: t.Mapping[str, t.Any], pid: int, ticks: int, digest: str, *, unchanged: bool) -> bool:
    """Whether the process runs with what is on disk now. Pure.

    Without a record of this very process (systemd started it: at boot, or after a crash), the times of the files
    tell: what has not changed since the start is what it was started with.
    """
    if (record.get("pid"), record.get("ticks")) == (pid, ticks):
        return bool(record.get("digest") == digest)
    return unchanged


def newest_change(paths: t.Iterable[str]) -> float:
    """The last change of any of the files; ctime, which a restored old file cannot carry over."""
    newest = 0.0
    for path in paths:
        with contextlib.suppress(OSError):
            newest = max(newest, os.stat(path).st_ctime)
    return newest


def existing(paths: t.Iterable[str]) -> tuple[str, ...]:
    return tuple(path for path in paths if os.path.lexists(path))
