# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables with a chain at the hook forward, of nftables and of both iptables: read for a warning, never changed."""

from __future__ import annotations

import contextlib
import json
import typing as t

from . import command

# iptables of the old kind: the file with the names of its tables, and the tool that prints their rules.
LEGACY = {4: ("ip_tables_names", "iptables-legacy-save"), 6: ("ip6_tables_names", "ip6tables-legacy-save")}

NftTable = list[dict[str, t.Any]]  # the objects of nft -j list table


def nft_tables() -> list[NftTable]:
    """The nftables tables that have a base chain at the hook; those of iptables-nft among them."""
    with _without_program():
        chains = [one["chain"] for one in _listed("chains") if one.get("chain", {}).get("hook") == "forward"]
        places = {(chain["family"], chain["table"]) for chain in chains}
        return [_listed("table", family, table) for family, table in sorted(places) if family in ("ip", "ip6", "inet")]
    return []


def legacy_rules() -> dict[int, list[str]]:
    """IP version -> the lines of iptables-legacy-save, if it has a table filter."""
    result = {}
    for version, (names, tool) in LEGACY.items():
        with contextlib.suppress(FileNotFoundError), open(f"/proc/thread-self/net/{names}", encoding="ascii") as file:
            if "filter" in file.read().split():
                with _without_program():
                    result[version] = command.run([tool, "-t", "filter"]).splitlines()
    return result


def _listed(*words: str) -> NftTable:
    return t.cast(NftTable, json.loads(command.run(["nft", "-j", "list", *words]))["nftables"])


@contextlib.contextmanager
def _without_program() -> t.Iterator[None]:
    """Programs may be missing before the role prerequisites has run; and a table may just have been deleted."""
    try:
        yield
    except command.CommandError as exc:
        if not exc.missing and "No such file or directory" not in exc.reason:
            raise
