# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""iptables(8), legacy and nft, and the files of the CLUSTERIP target in /proc, in the caller's network namespace."""

from __future__ import annotations

import os

from . import command, nft

LEGACY, NFT = "iptables-legacy", "iptables-nft"
TABLES = ("filter", "mangle", "nat", "raw", "security")
WAIT = "5"  # seconds to wait for other programs that hold the lock of iptables
CLUSTERIP = "/proc/thread-self/net/ipt_CLUSTERIP"  # a directory with one file per address


def run(tool: str, lines: list[str]) -> None:
    """Apply lines of iptables-restore; each table is one transaction. Raises CommandError."""
    command.run([f"{tool}-restore", "--noflush", "--wait", WAIT], "\n".join(lines) + "\n")


def saved(tool: str) -> list[str]:
    """The lines of iptables-save; empty if the tool is not installed, or without tables. Raises CommandError.

    The tool is not run without tables, because iptables-legacy-save would create them.
    """
    if tool == LEGACY and not _read("/proc/thread-self/net/ip_tables_names"):
        return []
    if tool == NFT and not any(family == "ip" and name in TABLES for family, name in nft.list_tables()):
        return []
    try:
        return command.run([f"{tool}-save"]).splitlines()
    except command.CommandError as exc:
        if exc.missing:
            return []
        raise


def has_clusterip() -> bool:
    """Whether this kernel supports the CLUSTERIP target, built in, loaded, or as a module that can be loaded."""
    if os.path.isdir(CLUSTERIP):
        return True
    try:
        command.run(["modprobe", "--dry-run", "--quiet", "ipt_CLUSTERIP"])
    except command.CommandError:
        return False
    return True


def clusterip_nodes(address: str) -> frozenset[int] | None:
    """The node numbers whose packets CLUSTERIP accepts for an address; None if it has no such address."""
    text = _read(f"{CLUSTERIP}/{address}")
    return None if text is None else frozenset(int(number) for number in text.split(",") if number.strip())


def change_clusterip_node(address: str, change: str) -> None:
    """Add (C(+2)) or remove (C(-2)) a node. Raises OSError: EIO if it was added or removed already."""
    with open(f"{CLUSTERIP}/{address}", "w", encoding="ascii") as file:
        file.write(change)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return None
