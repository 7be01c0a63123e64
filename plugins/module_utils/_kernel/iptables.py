# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iptables(8), both kinds, and what CLUSTERIP has in /proc: the only file that runs the one and opens the other.

All of it in the namespace its caller is in.
"""

from __future__ import annotations

import os

from . import command

LEGACY, NFT = "iptables-legacy", "iptables-nft"
WAIT = "5"  # seconds, for others who change rules at the same time
CLUSTERIP = "/proc/thread-self/net/ipt_CLUSTERIP"  # with a file for each address


def run(tool: str, lines: list[str]) -> None:
    """Lines of iptables-restore. Each table in them is changed at once, or not at all."""
    command.run([f"{tool}-restore", "--noflush", "--wait", WAIT], "\n".join(lines) + "\n")


def saved(tool: str) -> list[str]:
    """The lines of iptables-save. Asking does not make a table that is not there, and who has no such tool has none."""
    if tool == LEGACY and not _read("/proc/thread-self/net/ip_tables_names"):
        return []
    try:
        return command.run([f"{tool}-save"]).splitlines()
    except command.CommandError as exc:
        if exc.missing:
            return []
        raise


def has_clusterip() -> bool:
    """Whether this kernel has it, be it loaded or not."""
    if os.path.isdir(CLUSTERIP):
        return True
    try:
        command.run(["modprobe", "--dry-run", "--quiet", "ipt_CLUSTERIP"])
    except command.CommandError:
        return False
    return True


def clusterip_nodes(address: str) -> frozenset[int] | None:
    """The nodes that CLUSTERIP takes packets of; None when it knows nothing of the address."""
    text = _read(f"{CLUSTERIP}/{address}")
    return None if text is None else frozenset(int(number) for number in text.split(",") if number.strip())


def change_clusterip_node(address: str, change: str) -> None:
    """C(+2) or C(-2). The kernel says EIO to what is so already."""
    with open(f"{CLUSTERIP}/{address}", "w", encoding="ascii") as file:
        file.write(change)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return None
