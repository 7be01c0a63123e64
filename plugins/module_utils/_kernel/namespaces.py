# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Named network namespaces, as C(ip netns) manages them: files in /run/netns."""

from __future__ import annotations

import os

DIRECTORY = "/run/netns"


def path(netns: str) -> str:
    """The file that keeps a namespace alive and names it."""
    return f"{DIRECTORY}/{netns}"


def exists(netns: str) -> bool:
    """Whether a namespace of that name exists; "" is the one that the process is in.

    A crash can leave the file without a namespace mounted on it: the file is then on another device.
    """
    try:
        return not netns or os.stat(path(netns)).st_dev == os.stat("/proc/self/ns/net").st_dev
    except OSError:
        return False


def names() -> list[str]:
    """The names of all namespaces, sorted."""
    return sorted(os.listdir(DIRECTORY)) if os.path.isdir(DIRECTORY) else []
