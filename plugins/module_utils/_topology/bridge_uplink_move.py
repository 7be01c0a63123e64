# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moving a NIC's addresses and routes to a bridge and back: observe, carry out, check, roll back."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

from .._kernel.command import CommandError, run
from .._kernel.iproute import batch
from .bridge_uplink import ANYWHERE, InterfaceState, Move


def observe(name: str) -> InterfaceState | None:
    """An interface with its addresses, routes and ports, or None if it does not exist. Raises CommandError."""
    if not os.path.isdir(f"/proc/sys/net/ipv4/conf/{name}"):
        return None
    (link,) = json.loads(run(["ip", "-json", "addr", "show", "dev", name]))
    routes = []
    for family, anywhere in zip(("-4", "-6"), ANYWHERE):
        shown = json.loads(run(["ip", "-json", family, "route", "show", "dev", name, "table", "all"]) or "[]")
        routes += [{**r, "dst": anywhere if r["dst"] == "default" else r["dst"]} for r in shown]
    ports = json.loads(run(["ip", "-json", "link", "show", "master", name]) or "[]")
    return InterfaceState(name, link, routes, tuple(port["ifname"] for port in ports))


def responds(address: str, dev: str, seconds: float) -> bool:
    """Whether a neighbour answers ARP or neighbour discovery within C(seconds)."""
    end = time.monotonic() + seconds
    run(["ip", "neigh", "flush", "to", address, "dev", dev])
    while time.monotonic() < end:
        _solicit(address)
        shown = json.loads(run(["ip", "-json", "neigh", "show", "to", address, "dev", dev]) or "[]")
        if any("lladdr" in n and "FAILED" not in n["state"] for n in shown):
            return True
        time.sleep(0.05)
    return False


def _solicit(address: str) -> None:
    """Make the kernel resolve an address, by a datagram to the discard port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):  # no route yet
        sock.sendto(b"", (address, 9))


def carry_out(move: Move, gateway: str | None = None, seconds: float = 0) -> str | None:
    """Carry out a move, and roll it back if the gateway does not respond afterwards. The failure, or None.

    In a process with a session of its own, so that the move is completed and checked, or rolled back, even if this
    process ends, for example because the SSH connection is lost.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(reader)
        try:
            failure = _carry_out(move, gateway, seconds)
        except BaseException as exc:  # all of them are reported by the parent
            failure = f"{type(exc).__name__}: {exc}"
        try:
            os.write(writer, json.dumps(failure).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(answer) if answer else "the process that carried out the move was killed"


def _carry_out(move: Move, gateway: str | None, seconds: float) -> str | None:
    failure = None
    try:
        batch(move.lines)
    except CommandError as exc:
        failure = str(exc)
    if not failure and gateway and not responds(gateway, move.target, seconds):
        failure = f"{gateway} did not answer on {move.target} within {seconds:g} s"
    if failure:
        batch(move.rollback, force=True)
    else:
        batch(move.last)
    return failure
