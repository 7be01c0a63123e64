# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel as modules and programs use it: observe namespaces, apply steps.

Observing needs the standard library alone; pyroute2 is imported with the first change.
"""

from __future__ import annotations

import collections
import contextlib
import os
import typing as t

from . import command, iptables, links, namespaces, nft, rtnetlink, sysctl
from . import routing as _routing
from .observed import Host, Saved, View
from .steps import Step

if t.TYPE_CHECKING:
    from .changes import Changes

NFT_AT_ONCE = 8  # enough to keep processors busy; a process for each of many members at once would be too much


class Kernel:
    """Observes namespaces and applies steps. A context manager: what apply() opens is closed at its end."""

    def __init__(self) -> None:
        self._changes: Changes | None = None

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc_info: t.Any) -> None:
        if self._changes is not None:
            self._changes.close()

    # --- observe -----------------------------------------------------------------------------------------------------

    def observe(
        self,
        netnses: t.Iterable[str],
        parts: t.Collection[str] = links.PARTS,
        sysctls: t.Mapping[str, t.Iterable[str]] | None = None,
        proxies: t.Iterable[tuple[str, str]] = (),
    ) -> dict[str, View]:
        """See namespaces: their links, and those parts of them that are asked for. One that does not exist says so.

        sysctls: namespace -> the keys to read there. proxies: the proxy entries to look for, as (interface, address),
        since those are of interest and others are not.
        """
        keys = sysctls or {}
        return {
            netns: self._observe(netns, parts, keys.get(netns, ()), tuple(proxies)) for netns in sorted(set(netnses))
        }

    def _observe(
        self, netns: str, parts: t.Collection[str], keys: t.Iterable[str], asked: t.Collection[tuple[str, str]]
    ) -> View:
        try:
            with namespaces.within(netns), rtnetlink.Reader() as reader:
                values = {key: value for key, value in ((k, sysctl.read(k)) for k in keys) if value is not None}
                return View(netns, True, links.observe(reader, parts, asked), values)
        except FileNotFoundError:
            return View(netns)

    def tables(
        self, keys: t.Iterable[tuple[str, str, str]], views: t.Mapping[str, View]
    ) -> dict[tuple[str, str, str], nft.Listing]:
        """nft tables, named as (netns, family, table); None for one that is not there."""
        result: dict[tuple[str, str, str], nft.Listing] = dict.fromkeys(keys)
        running: collections.deque[tuple[tuple[str, str, str], command.Process]] = collections.deque()
        try:
            for key in list(result):
                if views[key[0]].exists:
                    if len(running) >= NFT_AT_ONCE:
                        done, process = running.popleft()
                        result[done] = nft.listed(process)
                    # One that was deleted since has no tables.
                    with contextlib.suppress(FileNotFoundError), namespaces.within(key[0]):
                        running.append((key, nft.start_listing(*key[1:])))
            while running:
                done, process = running.popleft()
                result[done] = nft.listed(process)
        finally:
            for _key, process in running:
                process.kill()
        return result

    def list_tables(self) -> list[tuple[str, str]]:
        """Family and name of every nft table of the host."""
        return nft.list_tables()

    def saved(self, netnses: t.Iterable[str], address: str = "") -> dict[str, Saved]:
        """What namespaces hold of iptables, and CLUSTERIP's nodes of an address; nothing for one that is none."""
        result = {}
        for netns in netnses:
            result[netns] = Saved()
            with contextlib.suppress(FileNotFoundError), namespaces.within(netns):
                lines = {tool: iptables.saved(tool) for tool in (iptables.LEGACY, iptables.NFT)}
                result[netns] = Saved(lines, iptables.clusterip_nodes(address) if address else None)
        return result

    def abilities(self, families: t.Iterable[str]) -> Host:
        """What this kernel can do; families: those of nftables that are of interest."""
        known = frozenset(family for family in families if nft.has_family(family))
        return Host(os.uname().release, known, iptables.has_clusterip())

    def routing(self, netns: str, networks: t.Iterable[str] = ()) -> _routing.Seen:
        """tun devices, routing rules and routes of our protocol in a namespace; nothing, if it does not exist.

        C(networks): besides, whether others have routes to these.
        """
        try:
            with namespaces.within(netns):
                return _routing.observe(networks)
        except FileNotFoundError:
            return _routing.Seen()

    # --- apply -------------------------------------------------------------------------------------------------------

    def apply(self, steps: t.Iterable[Step]) -> None:
        """Carry out steps in their order, up to the first that fails. Raises KernelError."""
        for step in steps:
            if self._changes is None:
                from .changes import Changes  # imports pyroute2

                self._changes = Changes()
            self._changes.apply(step)
