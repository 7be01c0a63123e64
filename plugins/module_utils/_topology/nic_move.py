# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A NIC's move to a bridge and back, carried out by C(ip -batch) in a process of its own session."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

from .._kernel.command import CommandError, run
from .._kernel.iproute import batch
from .nic import ANYWHERE, Move, Place


def show(name: str) -> Place | None:
    """An interface with its addresses, routes and ports; None where there is none."""
    if not os.path.isdir(f"/proc/sys/net/ipv4/conf/{name}"):
        return None
    (link,) = json.loads(run(["ip", "-json", "addr", "show", "dev", name]))
    routes = []
    for family, anywhere in zip(("-4", "-6"), ANYWHERE):
        shown = json.loads(run(["ip", "-json", family, "route", "show", "dev", name, "table", "all"]) or "[]")
        routes += [{**r, "dst": anywhere if r["dst"] == "default" else r["dst"]} for r in shown]
    ports = json.loads(run(["ip", "-json", "link", "show", "master", name]) or "[]")
    return Place(name, link, routes, tuple(port["ifname"] for port in ports))


def answers(address: str, dev: str, seconds: float) -> bool:
    """Whether a neighbour tells its MAC address within so many seconds."""
    end = time.monotonic() + seconds
    run(["ip", "neigh", "flush", "to", address, "dev", dev])
    while time.monotonic() < end:
        _provoke(address)
        shown = json.loads(run(["ip", "-json", "neigh", "show", "to", address, "dev", dev]) or "[]")
        if any("lladdr" in n and "FAILED" not in n["state"] for n in shown):
            return True
        time.sleep(0.05)
    return False


def _provoke(address: str) -> None:
    """Have the kernel ask who has an address: by a datagram to the discard port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):  # no route yet
        sock.sendto(b"", (address, 9))


def change(move: Move, gateway: str | None = None, seconds: float = 0) -> str | None:
    """Make a move, at once; a gateway must answer then, if there is one. Why it was taken back, or None.

    All by a process of its own session: whatever happens to this one, when the connection that it was started over is
    lost for example, the change is completed and checked, or taken back.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(reader)
        try:
            said = _change(move, gateway, seconds)
        except BaseException as exc:  # whatever it is, the parent is told
            said = f"{type(exc).__name__}: {exc}"
        try:
            os.write(writer, json.dumps(said).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(answer) if answer else "the process that made the change was killed"


def _change(move: Move, gateway: str | None, seconds: float) -> str | None:
    failure = None
    try:
        batch(move.lines)
    except CommandError as exc:
        failure = str(exc)
    if not failure and gateway and not answers(gateway, move.target, seconds):
        failure = f"{gateway} did not answer on {move.target} within {seconds:g} s"
    if failure:
        batch(move.back, force=True)
    else:
        batch(move.last)
    return failure
