# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands, waiting, control groups."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import time
import typing as t
from pathlib import Path


class LabError(Exception):
    """An error for the user, in a line."""


def run(*command: str | Path, timeout: float = 30) -> str:
    """Run a command; its output, stripped."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as exc:
        raise LabError(f"{command[0]} is missing: install the packages of tools/packages.txt") from exc
    except subprocess.TimeoutExpired as exc:
        raise LabError(f"`{' '.join(map(str, command))}` did not end within {timeout:.0f} s") from exc
    if done.returncode != 0:
        raise LabError(f"`{' '.join(map(str, command))}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def wait_for(what: str, condition: t.Callable[[], object], seconds: float, log: Path | None = None) -> None:
    """Wait until the condition holds; after the timeout, raise an error with the end of the log."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            said = "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log and log.exists() else ""
            raise LabError(f"waited {seconds:.0f} s for {what}" + (f": see {log}\n{said}" if log else ""))
        time.sleep(0.05)


PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>


def adopt_orphans() -> None:
    """Become the parent of all orphans of processes started from here on, instead of the machine's init."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise LabError(f"prctl: {os.strerror(ctypes.get_errno())}")


def reap() -> None:
    """Wait for all children, which must have been killed.

    A host's process 1 ends only when all who were in its namespace have been waited for, `nsenter`'s child among them;
    the machine's own init may be one that waits for nobody.
    """

    def none_left() -> bool:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return True
        return False

    wait_for("the lab's processes to end", none_left, 20)


def _hierarchies() -> list[Path]:
    """Where control groups are made. On a hybrid machine systemd looks at two of its hierarchies."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.procs").exists() and (top / "cgroup.controllers").exists():
        return [top]
    if (top / "unified/cgroup.procs").exists():
        return [path for path in (top / "unified", top / "systemd") if (path / "cgroup.procs").exists()]
    raise LabError("there are no control groups of version 2, neither in /sys/fs/cgroup nor in /sys/fs/cgroup/unified")


class Cgroup:
    """A control group: who is in it, and in the groups below, can be ended as one, with all children."""

    def __init__(self, path: str):
        self.paths = [top / path for top in _hierarchies()]
        self.unified = self.paths[0]

    def make(self) -> None:
        """Make it, if it is not there."""
        for path in self.paths:
            path.mkdir(exist_ok=True)

    def join(self) -> None:
        """Put this process into it."""
        for path in self.paths:
            (path / "cgroup.procs").write_text("0")

    def pids(self) -> list[int]:
        """The processes in it, not those in the groups below."""
        try:
            return [int(pid) for pid in (self.unified / "cgroup.procs").read_text().split()]
        except OSError:
            return []

    def populated(self) -> bool:
        """Whether a process is in it or below. One that has ended and was not waited for yet does not count."""
        try:
            return "populated 1" in (self.unified / "cgroup.events").read_text()
        except OSError:
            return False

    def kill(self) -> None:
        """End everything in it and below."""
        end = time.monotonic() + 20
        while self.populated():
            with contextlib.suppress(FileNotFoundError):
                (self.unified / "cgroup.kill").write_text("1")
            if time.monotonic() > end:
                raise LabError(f"waited 20 s for the processes of {self.unified} to end")
            time.sleep(0.01)

    def clear(self) -> None:
        """Remove the groups below, which must be empty."""
        for path in self.paths:
            for directory, _names, _files in os.walk(path, topdown=False):
                if directory != str(path):
                    os.rmdir(directory)

    def remove(self) -> None:
        """End everything in it and remove it. Who was about to join comes too late, or is ended as well."""
        end = time.monotonic() + 20
        while any(path.exists() for path in self.paths):
            self.kill()
            with contextlib.suppress(OSError):
                self.clear()
                for path in self.paths:
                    with contextlib.suppress(FileNotFoundError):
                        path.rmdir()
            if time.monotonic() > end:
                raise LabError(f"waited 20 s to remove {self.unified}")
            time.sleep(0.01)
