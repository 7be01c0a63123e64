# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only file that runs iproute2's ip: for C(_nic.py), and for C(_routing.py)."""

from __future__ import annotations

import re
import subprocess
import typing as t


class IpError(OSError):
    """ip refused; the message is its own."""


def run(words: t.Sequence[str], program: str = "ip") -> str:
    """One command of ip or tc, in the namespace that the caller is in; what it says. Raises IpError."""
    return _ip(words, program=program)


def _ip(args: t.Sequence[str], lines: t.Sequence[str] = (), *, strict: bool = True, program: str = "ip") -> str:
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
