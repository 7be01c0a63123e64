# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only file that runs iproute2's ip: for C(_nic.py), and for C(_routing.py)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
import typing as t

from ansible_collections.clustered.openvpn.plugins.module_utils._nic import ANYWHERE, Place

Lines = t.Sequence[str]


class IpError(OSError):
    """ip refused; the message is its own."""


def run(words: t.Sequence[str], program: str = "ip") -> str:
    """One command of ip or tc, in the namespace that the caller is in; what it says. Raises IpError."""
    return _ip(words, program=program)


def show(name: str) -> Place | None:
    """An interface with its addresses and routes; None where there is none."""
    if not os.path.isdir(f"/proc/sys/net/ipv4/conf/{name}"):
        return None
    (link,) = json.loads(_ip(["-json", "addr", "show", "dev", name]))
    routes = []
    for family, anywhere in zip(("-4", "-6"), ANYWHERE):
        shown = json.loads(_ip(["-json", family, "route", "show", "dev", name, "table", "all"]) or "[]")
        routes += [{**r, "dst": anywhere if r["dst"] == "default" else r["dst"]} for r in shown]
    return Place(name, link, routes)


def ports(bridge: str) -> list[str]:
    """Names of a bridge's ports."""
    return [link["ifname"] for link in json.loads(_ip(["-json", "link", "show", "master", bridge]) or "[]")]


def answers(address: str, dev: str, seconds: float) -> bool:
    """Whether a neighbour tells its MAC address within so many seconds."""
    end = time.monotonic() + seconds
    _ip(["neigh", "flush", "to", address, "dev", dev])
    while time.monotonic() < end:
        _provoke(address)
        shown = json.loads(_ip(["-json", "neigh", "show", "to", address, "dev", dev]) or "[]")
        if any("lladdr" in n and "FAILED" not in n["state"] for n in shown):
            return True
        time.sleep(0.05)
    return False


def _provoke(address: str) -> None:
    """Have the kernel ask who has an address: by a datagram to the discard port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):  # no route yet
        sock.sendto(b"", (address, 9))


def change(lines: Lines, check: tuple[str, str, float] | None, back: Lines, last: Lines) -> str | None:
    """Do C(lines) at once; then C(check), of answers(), and then C(last). C(back) if one of the former fails.

    Why it was taken back, or None.

    All by a process of its own session: whatever happens to this one, when the connection that it was started over is
    lost for example, the change is completed and checked, or taken back.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(reader)
        try:
            said = _change(lines, check, back, last)
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


def _change(lines: Lines, check: tuple[str, str, float] | None, back: Lines, last: Lines) -> str | None:
    try:
        _ip(["-batch", "-"], lines)
    except IpError as exc:
        _ip(["-force", "-batch", "-"], back, strict=False)
        return str(exc)
    if check and not answers(*check):
        _ip(["-force", "-batch", "-"], back, strict=False)
        return f"{check[0]} did not answer on {check[1]} within {check[2]:g} s"
    _ip(["-batch", "-"], last)
    return None


def _ip(args: t.Sequence[str], lines: Lines = (), *, strict: bool = True, program: str = "ip") -> str:
    try:
        done = subprocess.run(
            [program, *args], input="".join(f"{line}\n" for line in lines), capture_output=True, text=True, check=False
        )
    except FileNotFoundError as exc:
        raise IpError(f"the program {program!r} is missing: install the package iproute2") from exc
    if strict and done.returncode != 0:
        said = done.stderr.strip() or f"ip ended with {done.returncode}"
        number = re.search(r"\s*Command failed -:(\d+)$", said)
        raise IpError(f"ip {lines[int(number.group(1)) - 1]}: {said[: number.start()]}" if number else said)
    return done.stdout
