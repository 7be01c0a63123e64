# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keeper: repairs a cluster or bundle as soon as a part of it gets lost, by the steps of C(start).

It waits for notifications of the kernel, and reads every 1.45 seconds the resources that are not announced. Only a
change of resources that the desired state names makes it compare all of them. It is the main process of the unit
clustered-openvpn-keeper@NAME.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import typing as t

from .._kernel import service_manager, turns
from .._kernel.glance import Footprint, Glance, RecordingKernel
from .._kernel.kernel import Kernel
from .._kernel.notifications import ANNOUNCED_SYSCTLS, Interest, Listener
from .._kernel.observed import RTPROT_CLUSTERIP, RTPROT_STATIC
from .._kernel.routing import PROTOCOL
from .._ring import paths
from .backoff import AT_ONCE, Backoff, Pace

GLANCE = 1.45  # seconds between two looks at what the kernel does not announce
QUIET = 0.06  # seconds: notifications of one event that follow each other closely
FEED = 15.0  # seconds between two messages for the watchdog of systemd
TURN = 5.0  # seconds to wait while another program changes the host
RETRY, LAST_RETRY = 0.25, 60.0  # seconds after the first failure, then twice as many, and at most
# accept_ra is read of all interfaces of the host, and never set.
UNIMPORTANT = (*ANNOUNCED_SYSCTLS, "accept_ra")
PROTOCOLS = frozenset({RTPROT_STATIC, RTPROT_CLUSTERIP, int(PROTOCOL)})


class Task(t.Protocol):
    """A desired state, as the program applies it."""

    name: str
    table: str  # a text in the names of all its nftables tables

    def errors(self) -> tuple[type[Exception], ...]:
        """Exceptions that tell why a repair has failed."""

    def texts(self) -> t.Collection[str]:
        """All texts of the desired state; among them are the names of its links and namespaces."""

    def changed(self) -> bool:
        """Whether the desired state on disk is another by now: a run is in progress, or was interrupted."""

    def missing(self, kernel: Kernel) -> list[str]:
        """The steps that a repair would take."""

    def repair(self, kernel: Kernel) -> t.Iterator[str]:
        """Take the steps; they are yielded as they are taken."""


class Keeper:
    """Repairs one desired state until a signal ends it."""

    def __init__(self, task: Task, log: t.Callable[[str], None]) -> None:
        self._task, self._log = task, log
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._ends = self.restarts = False
        self._backoff, self._pace = Backoff(), Pace()
        self._footprint = Footprint()
        self._inside: dict[int, str] = {}  # other namespaces whose changes are announced
        self._glance: Glance | None = None
        self._pending: dict[str, None] = {}  # reasons to compare
        self._retry = float("inf")  # when to compare without a reason
        self._problem, self._paused = "", False
        self._repairs = self._failures = 0  # the failures are those in a row

    def keep(self) -> None:
        """Run until SIGTERM; or until SIGHUP, after which the program is executed again."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        signal.set_wakeup_fd(self._write)
        os.makedirs(paths.keeper_directory(self._task.name), mode=0o755, exist_ok=True)
        with open(paths.keeper_loaded(self._task.name), "w", encoding="ascii"):
            pass
        with contextlib.suppress(FileNotFoundError):
            os.unlink(paths.keeper_problem(self._task.name))
        with Listener(self._read) as listener:
            self._compare(listener, ["start"])
            service_manager.notify("READY=1")
            glanced = fed = time.monotonic()
            while not self._ends:
                due = min(glanced + GLANCE, self._retry, self._pace.next() if self._pending else float("inf"))
                woken = listener.wait(due - time.monotonic())
                if woken:
                    found = listener.collect(QUIET)
                    self._pending.update(dict.fromkeys(found))
                    if not found:
                        time.sleep(QUIET)  # messages about others: read them together
                now = time.monotonic()
                if now >= glanced + GLANCE and self._glance is not None:
                    glanced = now
                    if now >= fed + FEED:
                        fed = now
                        service_manager.notify("WATCHDOG=1")
                    self._pending.update(dict.fromkeys(self._glance.changes()))
                if now >= self._retry or (self._pending and now >= self._pace.next()):
                    reasons, self._pending = list(self._pending), {}
                    self._compare(listener, reasons)

    def _end(self, number: int, _frame: t.Any) -> None:
        self._ends = True
        self.restarts = number == signal.SIGHUP

    def _compare(self, listener: Listener, reasons: list[str]) -> None:
        """Compare the kernel with the desired state, and repair it."""
        self._retry = float("inf")
        if self._pausing():
            return
        try:
            with turns.turn(TURN):
                while self._repaired(listener, reasons) and not self._ends:
                    reasons = ["a repair"]
        except self._task.errors() as exc:
            self._retry = time.monotonic() + min(LAST_RETRY, RETRY * 2 ** min(self._failures, 10))
            self._failures += 1
            self._fail(str(exc))

    def _pausing(self) -> bool:
        """Whether a run has begun to change the desired state. It reloads this unit at its end."""
        if not self._task.changed():
            return False
        if not self._paused:
            self._paused = True
            self._log("paused: the desired state on disk has changed; waiting for the end of the run that changes it")
            service_manager.notify("STATUS=Paused until the run that changes the desired state is complete")
        return True

    def _repaired(self, listener: Listener, reasons: list[str]) -> bool:
        """One comparison. Whether to compare again: something was repaired, or is not watched yet."""
        self._look_anew()
        listener.collect(0.0)  # what they announce is compared now
        with contextlib.closing(RecordingKernel(UNIMPORTANT)) as kernel:
            now = time.monotonic()
            missing = self._task.missing(kernel)
            inside = listener.inside(kernel.footprint.netnses - {""})
            listener.expect(self._interest(kernel, inside))
            wait = self._backoff.wait(missing, now)
            self._pace.compared(time.monotonic(), in_vain=not missing or wait > 0)
            if not missing:
                self._failures = 0
                self._report("")
                unwatched = (kernel.footprint, inside) != (self._footprint, self._inside)
                self._footprint, self._inside = kernel.footprint, inside
                return unwatched
            if wait > 0:
                self._retry = now + wait
                self._hold(missing)
                return False
            self._backoff.repaired(missing, now)
            header = f"repairing, because of {', '.join(reasons) or 'a retry'}:"
            for step in self._task.repair(kernel):
                self._log(f"{header}\n{step}" if header else step)
                header = ""
            self._repairs += 1
            self._log(f"repaired within {time.monotonic() - now:.2f} s")
            self._footprint = kernel.footprint
            return True

    def _look_anew(self) -> None:
        """Take the present state as that with which the next glances compare, before it is compared itself."""
        if self._glance is not None:
            self._glance.close()
        self._glance = Glance(self._footprint, self._inside.values())

    def _interest(self, kernel: RecordingKernel, inside: dict[int, str]) -> Interest:
        """The links that the desired state names, with ports of its bridges, and all else that is announced."""
        names = frozenset(self._task.texts())
        links = kernel.observe([""], ())[""].links.values()
        ours = [link for link in links if {link.name, link.master} & names or link.name == "lo"]
        return Interest(
            names,
            frozenset(link.index for link in ours),
            # A NIC has many neighbours, none of them ours.
            frozenset(link.index for link in ours if link.kind == "bridge" or link.master in names),
            PROTOCOLS,
            self._task.table.encode(),
            inside,
        )

    def _hold(self, missing: list[str]) -> None:
        step, delay = self._backoff.slowest(missing)
        self._fail(
            f"another program undoes a step that was repaired more than {AT_ONCE} times within a minute: {step}; the"
            f" next repair follows after {delay:.0f} s. Find that program, for example by 'ip monitor' or 'nft monitor'"
        )

    def _fail(self, problem: str) -> None:
        if problem != self._problem:
            self._log(problem)
        self._report(problem)

    def _report(self, problem: str) -> None:
        """Publish the problem: for systemctl status, for C(check), and for the health of this host."""
        if problem != self._problem:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(paths.keeper_problem(self._task.name))
            if problem:
                with open(paths.keeper_problem(self._task.name), "w", encoding="utf-8") as file:
                    file.write(f"{problem}\n")
            elif self._problem:
                self._log("all parts exist again")
        self._problem = problem
        repairs = f"; {self._repairs} repair{'s' * (self._repairs != 1)} since the start" if self._repairs else ""
        service_manager.notify("STATUS=" + (problem.replace("\n", " ") or f"All parts exist{repairs}"))


def problem(name: str) -> str:
    """The problem that a keeper has published; "" for none."""
    try:
        with open(paths.keeper_problem(name), encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def is_paused(name: str, path: str) -> bool:
    """Whether a keeper runs that has read an earlier desired state than the one on disk."""
    try:
        return os.stat(path).st_mtime_ns > os.stat(paths.keeper_loaded(name)).st_mtime_ns
    except FileNotFoundError:
        return False


def keep(task: Task, log: t.Callable[[str], None]) -> None:
    """Run the keeper. After SIGHUP it executes the program again."""
    keeper = Keeper(task, log)
    keeper.keep()
    if keeper.restarts:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
