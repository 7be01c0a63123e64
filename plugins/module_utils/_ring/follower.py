# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The claims process: follows keepalived's FIFO and the health of members, and writes the claims to the kernel.

It is the main process of the unit clustered-openvpn-claims@NAME.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import signal
import socket
import sys
import threading
import time
import typing as t

from .._cluster.reconnect import send_restarts
from .._kernel import kernel as _kernel
from .._kernel import nft, rtnetlink, ruleset
from .._kernel.observed import View
from .._kernel.steps import step
from .._openvpn.instance import management_socket
from .._openvpn.management import ManagementError
from . import claims as _claims
from . import election, paths, saved
from . import slots as _slots
from .failover import Failover
from .health import MemberCheck

HEALTHY, UNHEALTHY = "0\n", "1\n"  # content of the file that keepalived tracks: an exit status
# Seconds without a writer after which keepalived counts as gone, and between two looks for a writer meanwhile. On a
# reload, keepalived closes the FIFO for some milliseconds.
WRITER_TIMEOUT, WRITER_POLL = 0.5, 0.02
RECONNECT_DELAY = 0.3  # seconds from a move until clients reconnect: their new host must have taken over
COMPARE_INTERVAL = 2.0  # seconds between two comparisons with the kernel
# Seconds without a sign of life after which systemd kills this process; and while it executes a new program. The
# process sets them itself: WatchdogSec= in the unit would kill processes of an earlier release, which send none.
WATCHDOG, WATCHDOG_START = 2.0, 10.0
HOLD = 60.0  # seconds for which slots are kept at most while the election changes
MAX_LINE = 4096  # bytes of an incomplete line of the FIFO that are kept


class Follower:
    """Applies keepalived's decisions, until a signal ends it."""

    def __init__(self, failover: Failover, name: str) -> None:
        self._failover = failover
        self._name = name
        self._fifo = paths.fifo(name)
        self._election = election.Election(failover.claims.linger)
        self._slots: _claims.Owners = {}
        self._kernel_owners: dict[int, str] | None = None  # None: unknown
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._rest = b""  # an incomplete line of the FIFO
        self._ends = self.restarts = False
        self._failing_since: float | None = None  # since when the claims cannot be written
        self._was_stuck = False
        self._sign_due = 0.0  # when the next sign of life is due
        self._overdue: list[str] = []  # members whose health checks hang
        self._moved = threading.Event()
        before = self._load_state()
        self._election.restore(before.held)
        self._slots = dict(before.slots)
        if not before.held:  # after a crash: what it has released, other hosts serve
            self._moved.set()
        # A member is unhealthy until it has been checked.
        self._checks = [
            MemberCheck(member, failover, self._write, member.name in before.healthy, _log)
            for member in failover.members
        ]

    def follow(self) -> None:
        """Run until SIGTERM, and release all slots then; or until SIGHUP, and save the state for the next process."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        signal.set_wakeup_fd(self._write)
        if not os.path.exists(self._fifo):
            os.mkfifo(self._fifo, 0o600)
        with open(paths.claims_loaded(self._name), "w", encoding="ascii"):
            pass
        self._report_health()
        self._apply()
        for check in self._checks:
            check.start()
        threading.Thread(target=self._reconnect_clients, daemon=True).start()
        notify(f"READY=1\nWATCHDOG_USEC={round(WATCHDOG * 1e6)}")
        fifo = self._open()
        alone, compared = float("inf"), time.monotonic()  # since when there is no writer; the last comparison
        while not self._ends:
            now = time.monotonic()
            due = min(
                self._election.next_release(),
                alone + WRITER_TIMEOUT,
                now + WRITER_POLL if alone <= now else compared + COMPARE_INTERVAL,
                self._watchdog(now),
            )
            fds, _writable, _else = select.select([fifo, self._read], [], [], max(0.0, due - now))
            now = time.monotonic()
            if self._read in fds:
                os.read(self._read, 4096)
                self._report_health()
            if fifo in fds and not self._read_fifo(fifo, now):
                os.close(fifo)  # or select would return at once until there is a writer
                fifo, alone = self._open(), now
            elif alone <= now and (fifo in fds or self._read_fifo(fifo, now)):
                alone = float("inf")
            if now >= alone + WRITER_TIMEOUT:
                _log("keepalived has exited; all slots are released")
                self._election.clear()
                alone = float("inf")
            if now >= compared + COMPARE_INTERVAL:
                compared, self._kernel_owners = now, None
                if self._read_fifo(fifo, now):
                    with contextlib.suppress(OSError):  # the next comparison tries again
                        self._election.compare([address.packed[-1] for address in placeholders(self._failover)])
            self._apply()
        if self.restarts:
            self._save_state()
        else:
            self._election.clear()
            self._apply()
            reconnect_clients(self._failover, self._slots)

    def _watchdog(self, now: float) -> float:
        """Send the sign of life to systemd if it is due; the time of the next one. None while a check hangs."""
        if now >= self._sign_due:
            self._sign_due = now + WATCHDOG / 4
            overdue = [check.member.name for check in self._checks if check.overdue(now)]
            if not overdue:
                notify("WATCHDOG=1")
            elif overdue != self._overdue:
                _log(f"the health checks of {', '.join(overdue)} hang; systemd restarts this process")
            self._overdue = overdue
        return self._sign_due

    def _reconnect_clients(self) -> None:
        """Reconnect clients after each move of slots. Whatever fails, it is tried again after the next move."""
        while True:
            self._moved.wait()
            self._moved.clear()
            time.sleep(RECONNECT_DELAY)
            try:
                reconnect_clients(self._failover, self._slots)
            except Exception as exc:  # pylint: disable=broad-exception-caught
                _log(f"cannot reconnect clients of moved buckets: {type(exc).__name__}: {exc}")

    def _end(self, number: int, _frame: t.Any) -> None:
        self._ends = True
        self.restarts = number == signal.SIGHUP

    def _save_state(self) -> None:
        """Save slots and health, so that a restart with a new program or desired state changes no claim."""
        healthy = [check.member.name for check in self._checks if check.healthy]
        state = saved.Saved(tuple(sorted(self._election.held(time.monotonic()))), self._slots, tuple(healthy))
        with open(paths.saved_state(self._name), "w", encoding="utf-8") as file:
            file.write(saved.text(state))

    def _load_state(self) -> saved.Saved:
        """The state that the process before has saved; it is read once."""
        path = paths.saved_state(self._name)
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            os.unlink(path)
            return saved.parse(file.read())
        return saved.Saved()

    def _open(self) -> int:
        return os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _read_fifo(self, fifo: int, now: float) -> bool:
        """Process the lines in the FIFO; False if it has no writer."""
        try:
            chunk = os.read(fifo, 65536)
        except BlockingIOError:
            return True
        *lines, rest = (self._rest + chunk).split(b"\n") if chunk else [b""]
        self._rest = rest[-MAX_LINE:]
        for line in lines:
            self._election.read_line(line.decode(errors="replace"), now)
        return bool(chunk)

    def _report_health(self) -> None:
        """Write the file that keepalived tracks. It reads the file each time it is closed."""
        healthy = not self._stuck() and any(check.healthy for check in self._checks)
        with open(paths.health(self._name), "w", encoding="ascii") as file:
            file.write(HEALTHY if healthy else UNHEALTHY)

    def _stuck(self) -> bool:
        """Whether the tables have been missing for longer than a reload takes to recreate them."""
        return self._failing_since is not None and time.monotonic() - self._failing_since >= COMPARE_INTERVAL

    def _on_hold(self) -> bool:
        """Whether the role changes how the hosts elect: meanwhile, they keep their slots."""
        try:
            return abs(time.time() - os.stat(paths.hold(self._name)).st_mtime) < HOLD
        except OSError:
            return False

    def _apply(self) -> None:
        """Share the slots among the healthy members, and write the claims to the kernel if they differ."""
        claims = self._failover.claims
        healthy = [check.member.name for check in self._checks if check.healthy]
        held = frozenset(self._slots) if self._on_hold() else self._election.held(time.monotonic())
        slots = _claims.shared_out(claims, held, healthy, self._slots)
        owners = _claims.elements(claims, slots)
        if slots != self._slots:
            _log(_claims.changes(self._slots, slots))
            self._slots = slots
            self._moved.set()
        try:
            if self._kernel_owners is None:
                self._kernel_owners = kernel_owners(claims)
            if self._kernel_owners != owners:
                nft.run(_claims.transaction(claims, owners))
                self._kernel_owners = owners
            self._failing_since = None
        # For example, the tables are being recreated, or nft prints no JSON; the next comparison tries again.
        except (OSError, ValueError, LookupError, TypeError) as exc:
            _log(f"cannot write the claims: {exc}")
            self._failing_since = self._failing_since or time.monotonic()
        if self._stuck() != self._was_stuck:
            self._was_stuck = self._stuck()
            self._report_health()


def kernel_owners(claims: _claims.Claims) -> dict[int, str]:
    """Bucket -> owner in the kernel. If its tables differ, a value that equals no claims."""
    with _kernel.Kernel() as kernel:
        keys = [("", family, table) for family, table, _kind in claims.tables]
        listings = kernel.tables(keys, {"": View("", True)})
    try:
        found = [
            {int(k): v for k, v in ruleset.elements_of(listings["", family, table], kind.split()[-1]).items()}
            for family, table, kind in claims.tables
        ]
    except (ValueError, TypeError, LookupError, AttributeError):  # elements that are not ours, such as intervals
        return {0: "differs"}
    return found[0] if all(one == found[0] for one in found) else {0: "differs"}


def reconnect_clients(failover: Failover, slots: _claims.Owners) -> None:
    """Let clients of this host's servers reconnect if their bucket has another owner."""
    claims = failover.claims
    for member in failover.members:
        own = [slot for slot, owner in slots.items() if owner == member.name]
        buckets = frozenset(_slots.buckets_of(own, claims.slots, claims.total_nodes))
        for instance, port in zip(member.instances, member.ports):
            try:
                reconnected = send_restarts(management_socket(instance.name), port, buckets, failover.hashing)
            except ManagementError:  # it hangs or has exited; its clients reconnect after their ping-restart
                continue
            if reconnected:
                _log(f"{instance.name}: {len(reconnected)} clients of moved buckets reconnect")


def follow(failover: Failover, name: str) -> None:
    """Run the claims process of a cluster. After SIGHUP it executes the program again."""
    follower = Follower(failover, name)
    follower.follow()
    if follower.restarts:
        notify(f"WATCHDOG=1\nWATCHDOG_USEC={round(WATCHDOG_START * 1e6)}")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def placeholders(failover: Failover) -> list[ipaddress.IPv4Address]:
    """Placeholder addresses on the host: keepalived adds that of each of its slots. If it is killed, they stay."""
    with rtnetlink.Reader() as reader:
        addresses = (rtnetlink.ip(attributes.get(rtnetlink.IFA_LOCAL)) for _fixed, attributes in reader.addresses())
        found = [ipaddress.ip_address(address) for address in addresses if address]
    return [one for one in found if isinstance(one, ipaddress.IPv4Address) and one in failover.placeholders]


def release(failover: Failover, name: str) -> None:
    """Remove all claims of this host and keepalived's placeholder addresses, even if both processes were killed."""
    claims = failover.claims
    remaining = [step("addr_del", dev="lo", address=f"{address}/32") for address in placeholders(failover)]
    with _kernel.Kernel() as kernel:
        kernel.apply(remaining)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(paths.saved_state(name))
    existing = set(nft.list_tables())
    tables = tuple(table for table in claims.tables if table[:2] in existing)
    nft.run(_claims.transaction(_claims.Claims(tables, 1, 1, {}, {}), {}))


def notify(state: str) -> None:
    """Notify systemd, if it has started this process: sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        with contextlib.closing(sock), contextlib.suppress(OSError):  # systemd restarts itself; the next one follows
            sock.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)


def _log(text: str) -> None:
    with contextlib.suppress(OSError):  # the journal is restarted
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
