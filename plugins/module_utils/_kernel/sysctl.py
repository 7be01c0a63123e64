# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sysctls of the caller's network namespace: /proc/sys."""

from __future__ import annotations


def read(key: str) -> str | None:
    """A value as sysctl(8) prints it, or None if the kernel has no such key."""
    try:
        with open(path(key), encoding="ascii") as file:
            return " ".join(file.read().split())
    except FileNotFoundError:
        return None


def write(key: str, value: str) -> None:
    """Set a value. Raises OSError."""
    with open(path(key), "w", encoding="ascii") as file:
        file.write(value)


def path(key: str) -> str:
    """/proc/sys/…; as in sysctl(8), the names of a key that is written with slashes may have dots in them."""
    slash, dot = key.find("/"), key.find(".")
    return "/proc/sys/" + (key if slash >= 0 and (dot < 0 or slash < dot) else key.replace(".", "/"))
