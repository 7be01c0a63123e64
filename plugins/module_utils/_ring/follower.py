# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process that follows keepalived: its FIFO and the members' health -> claims in the kernel."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import typing as t

from .._cluster.reconnect import reconnect_clients
from .._kernel import kernel as _kernel
from .._kernel import nft, rtnetlink, ruleset
from .._kernel.observed import View
from .._kernel.steps import step
from .._openvpn.instance import management_socket
from .._openvpn.management import ManagementError
from . import claims as _claims
from . import election, health
from . import slots as _slots
from .failover import Failover, Member

RUN = "/run/clustered-openvpn-claims"
LOADED = "loaded"  # the file that the process makes when it has read the desired state
WELL, UNWELL = "0\n", "1\n"  # what keepalived reads: a status as of a process
# Seconds without anybody at the other end of the FIFO. When keepalived reloads it closes it for some milliseconds, and
# of slots that it keeps it says nothing then (2.2.7 tells just those that it has not).
SILENCE, GLANCE = 0.5, 0.02
SETTLED = 0.3  # seconds after which others have taken what has moved
LOOK = 2.0  # seconds between two looks at what the kernel holds


class Watch(threading.Thread):
    """Asks one member again and again, and writes a byte when its answer changes. C(well): what is known of it."""

    def __init__(self, member: Member, failover: Failover, changed: int, well: bool) -> None:
        super().__init__(name=member.name, daemon=True)
        self.member = member
        self.well = well
        self._failover = failover
        self._changed = changed

    def run(self) -> None:
        """Until the process ends."""
        in_a_row, said = 0, ""
        while True:
            began = time.monotonic()
            trouble = self._trouble()
            in_a_row = in_a_row + 1 if bool(trouble) == self.well else 0
            if in_a_row >= (self._failover.fall if self.well else self._failover.rise):
                self.well, in_a_row = not self.well, 0
                os.write(self._changed, b".")
                if self.well:
                    _say(f"{self.member.name} is well")
                    said = ""
            if not self.well and trouble not in ("", said):
                _say(f"{self.member.name} is not well: {trouble}")
                said = trouble
            time.sleep(max(0.0, began + self._failover.interval - time.monotonic()))

    def _trouble(self) -> str:
        try:
            return self._asked()
        except OSError as exc:  # its namespace is being made anew, maybe
            return str(exc)

    def _asked(self) -> str:
        timeout = self._failover.timeout
        for instance in self.member.instances:
            if trouble := health.trouble(instance, timeout):
                return trouble
        if self.member.command:
            return health.refused(self.member.command, self.member.netns, timeout)
        return ""


class Follower:
    """Does what keepalived says, until it is told to end."""

    def __init__(self, failover: Failover, directory: str) -> None:
        self._failover = failover
        self._directory = directory
        self._health = f"{directory}/health"
        self._fifo = f"{directory}/fifo"
        self._election = election.Election(failover.claims.linger)
        self._slots: _claims.Owners = {}
        self._held: dict[int, str] | None = None  # what the kernel holds, as far as is known
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._rest = b""
        self._ends = self.begins_anew = False
        self._failing: float | None = None  # since when claims cannot be set
        self._was_stuck = False
        self._moved = threading.Event()
        self._state = f"{directory}/state"
        before = self._taken_over()
        self._election.took_over(before["held"])
        self._slots = {int(slot): member for slot, member in before["slots"].items()}
        # Nothing is well until it was asked.
        self._watches = [Watch(m, failover, self._write, m.name in before["well"]) for m in failover.members]

    def follow(self) -> None:
        """Until SIGTERM: then nothing is this host's; or SIGHUP: then all is kept for who comes next."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        signal.set_wakeup_fd(self._write)
        if not os.path.exists(self._fifo):
            os.mkfifo(self._fifo, 0o600)
        with open(f"{self._directory}/{LOADED}", "w", encoding="ascii"):
            pass  # its time says how old what this process knows may be
        self._tell()
        self._settle()
        for watch in self._watches:
            watch.start()
        threading.Thread(target=self._tell_clients, daemon=True).start()
        _ready()
        fifo = self._open()
        alone, looked = float("inf"), time.monotonic()  # since when
        while not self._ends:
            now = time.monotonic()
            due = min(self._election.due(), alone + SILENCE, now + GLANCE if alone <= now else looked + LOOK)
            fds, _writable, _else = select.select([fifo, self._read], [], [], max(0.0, due - now))
            now = time.monotonic()
            if self._read in fds:
                os.read(self._read, 4096)
                self._tell()
            if fifo in fds and not self._heard(fifo, now):
                os.close(fifo)  # select would go on to say that there is nobody
                fifo, alone = self._open(), now
            elif alone <= now and (fifo in fds or self._heard(fifo, now)):
                alone = float("inf")
            if now >= alone + SILENCE:
                _say("keepalived is gone")
                self._election.forget()
                alone = float("inf")
            if now >= looked + LOOK:
                looked, self._held = now, None
                if self._heard(fifo, now):
                    self._election.seen([address.packed[-1] for address in placeholders(self._failover)])
            self._settle()
        if self.begins_anew:
            self._hand_over()
        else:
            self._election.forget()
            self._settle()
            tell_clients(self._failover, self._slots)

    def _tell_clients(self) -> None:
        """Whenever slots have moved, and the packets with them."""
        while True:
            self._moved.wait()
            self._moved.clear()
            time.sleep(SETTLED)
            tell_clients(self._failover, self._slots)

    def _end(self, number: int, _frame: t.Any) -> None:
        self._ends = True
        self.begins_anew = number == signal.SIGHUP

    def _hand_over(self) -> None:
        """Keep what is known, so that a new process, with a new program maybe, changes nothing by beginning."""
        well = [watch.member.name for watch in self._watches if watch.well]
        known = {"held": sorted(self._election.held(time.monotonic())), "slots": self._slots, "well": well}
        with open(self._state, "w", encoding="utf-8") as file:
            json.dump(known, file)

    def _taken_over(self) -> dict[str, t.Any]:
        """What the process before has kept, once."""
        known: dict[str, t.Any] = {"held": [], "slots": {}, "well": []}
        with contextlib.suppress(FileNotFoundError), open(self._state, encoding="utf-8") as file:
            os.unlink(self._state)
            known = json.load(file)
        return known

    def _open(self) -> int:
        return os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def _heard(self, fifo: int, now: float) -> bool:
        """Take in what there is to read; False if nobody is there to write."""
        try:
            chunk = os.read(fifo, 65536)
        except BlockingIOError:
            return True
        *lines, self._rest = (self._rest + chunk).split(b"\n") if chunk else [b""]
        for line in lines:
            self._election.told(line.decode(errors="replace"), now)
        return bool(chunk)

    def _tell(self) -> None:
        """Let keepalived know. It looks at the file whenever that is closed."""
        well = not self._stuck() and any(watch.well for watch in self._watches)
        with open(self._health, "w", encoding="ascii") as file:
            file.write(WELL if well else UNWELL)

    def _stuck(self) -> bool:
        """Whether the tables have been away for longer than it takes to make them anew: others must take over."""
        return self._failing is not None and time.monotonic() - self._failing >= LOOK

    def _settle(self) -> None:
        """Bring the kernel to what holds now."""
        claims = self._failover.claims
        well = [watch.member.name for watch in self._watches if watch.well]
        slots = _claims.shared_out(claims, self._election.held(time.monotonic()), well, self._slots)
        wanted = _claims.elements(claims, slots)
        if slots != self._slots:
            _say(_claims.changes(self._slots, slots))
            self._slots = slots
            self._moved.set()
        try:
            if self._held is None:
                self._held = held(claims)
            if self._held != wanted:
                nft.run(_claims.transaction(claims, wanted))
                self._held = wanted
            self._failing = None
        except OSError as exc:  # the tables are being made anew, maybe: it is tried again at the next look
            _say(f"claims could not be set: {exc}")
            self._failing = self._failing or time.monotonic()
        if self._stuck() != self._was_stuck:
            self._was_stuck = self._stuck()
            self._tell()


def held(claims: _claims.Claims) -> dict[int, str]:
    """The owners that the kernel holds; of tables that differ, something that is none of both."""
    with _kernel.Kernel() as kernel:
        keys = [("", family, table) for family, table, _kind in claims.tables]
        listings = kernel.tables(keys, {"": View("", True)})
    found = [
        {int(k): v for k, v in ruleset.elements_of(listings["", family, table], kind.split()[-1]).items()}
        for family, table, kind in claims.tables
    ]
    return found[0] if all(one == found[0] for one in found) else {0: "differs"}


def tell_clients(failover: Failover, slots: _claims.Owners) -> None:
    """Clients of this host's servers connect anew if they belong elsewhere now."""
    claims = failover.claims
    for member in failover.members:
        mine = [slot for slot, owner in slots.items() if owner == member.name]
        buckets = frozenset(_slots.buckets_of(mine, claims.slots, claims.total_nodes))
        for instance, port in zip(member.instances, member.ports):
            try:
                told = reconnect_clients(management_socket(instance.name), port, buckets, failover.hashing)
            except ManagementError:  # it hangs, or is gone: they notice by themselves
                continue
            if told:
                _say(f"{instance.name}: {len(told)} clients are told to connect anew")


def follow(failover: Failover, name: str) -> None:
    """Be the process that does what keepalived says of a cluster."""
    follower = Follower(failover, f"{RUN}-{name}")
    follower.follow()
    if follower.begins_anew:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def placeholders(failover: Failover) -> list[ipaddress.IPv4Address]:
    """Those that are there: keepalived adds one when it has a slot, and takes it away; unless it is killed."""
    with rtnetlink.Reader() as reader:
        addresses = (rtnetlink.ip(attributes.get(rtnetlink.IFA_LOCAL)) for _fixed, attributes in reader.addresses())
        found = [ipaddress.ip_address(address) for address in addresses if address]
    return [one for one in found if isinstance(one, ipaddress.IPv4Address) and one in failover.placeholders]


def release(failover: Failover, name: str) -> None:
    """Nothing is this host's any more, whatever became of keepalived and of the process that followed it."""
    claims = failover.claims
    left = [step("addr_del", dev="lo", address=f"{address}/32") for address in placeholders(failover)]
    with _kernel.Kernel() as kernel:
        kernel.apply(left)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{RUN}-{name}/state")
    there = set(nft.list_tables())  # those that are gone hold nothing
    tables = tuple(one for one in claims.tables if one[:2] in there)
    nft.run(_claims.transaction(_claims.Claims(tables, 1, 1, {}, {}), {}))


def _ready() -> None:
    """Tell systemd, if it started this: sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)) as notify:
            notify.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
