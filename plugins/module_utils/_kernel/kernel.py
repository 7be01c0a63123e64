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
from .observed import Host, Saved, View
from .steps import Step

if t.TYPE_CHECKING:
    from . import routing
    from .changes import Changes

NFT_AT_ONCE = 8  # nft processes that run in parallel


class Kernel:
    """Observes namespaces and applies steps. A context manager, which closes the sockets of changes."""

    def __init__(self) -> None:
        self._changes: Changes | None = None

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc_info: t.Any) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets of changes."""
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
        """The links of namespaces, with the given parts (links.PARTS), by namespace. View.exists: whether it exists.

        sysctls: namespace -> keys to read. proxies: proxy entries to look for, as (interface, address).
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
        """nft tables by (netns, family, table), each as nft.listed() returns it; None if it does not exist."""
        result: dict[tuple[str, str, str], nft.Listing] = dict.fromkeys(keys)
        if any(views[netns].exists for netns, _family, _table in result):
            command.require("nft")
        existing: dict[str, list[tuple[str, str]]] = {}
        running: collections.deque[tuple[tuple[str, str, str], command.Process]] = collections.deque()
        try:
            for key in list(result):
                netns, family, table = key
                # A namespace that was deleted in the meantime has no tables.
                with contextlib.suppress(FileNotFoundError), namespaces.within(netns):
                    if netns not in existing:
                        existing[netns] = nft.list_tables()
                    if (family, table) in existing[netns]:
                        if len(running) >= NFT_AT_ONCE:
                            done, process = running.popleft()
                            result[done] = nft.listed(process)
                        running.append((key, nft.start_listing(family, table)))
            while running:
                done, process = running.popleft()
                result[done] = nft.listed(process)
        finally:
            for _key, process in running:
                process.kill()
        return result

    def loaded(self, text: str, family: str, table: str) -> nft.Listing:
        """A table as nft lists it after loading a text, in a namespace without other rules. Raises CommandError."""
        return nft.loaded(text, family, table)

    def list_tables(self) -> list[tuple[str, str]]:
        """Family and name of every nft table of the host."""
        return nft.list_tables()

    def saved(self, netnses: t.Iterable[str], address: str = "") -> dict[str, Saved]:
        """iptables rules, and CLUSTERIP's node numbers for an address, by namespace; empty if it does not exist."""
        result = {}
        for netns in netnses:
            result[netns] = Saved()
            with contextlib.suppress(FileNotFoundError), namespaces.within(netns):
                lines = {tool: iptables.saved(tool) for tool in (iptables.LEGACY, iptables.NFT)}
                result[netns] = Saved(lines, iptables.clusterip_nodes(address) if address else None)
        return result

    def abilities(self, families: t.Iterable[str]) -> Host:
        """The kernel's release, which of the nftables families it supports, and whether it has CLUSTERIP."""
        supported = frozenset(family for family in families if nft.has_family(family))
        return Host(os.uname().release, supported, iptables.has_clusterip())

    def routing(self, netns: str, networks: t.Iterable[str] = ()) -> routing.Seen:
        """tun devices, and routing rules and routes of the collection; empty if the namespace does not exist.

        C(networks): destinations to check for routes that the collection did not add.
        """
        from . import routing  # for bundles alone

        try:
            with namespaces.within(netns):
                return routing.observe(networks)
        except FileNotFoundError:
            return routing.Seen()

    # --- apply -------------------------------------------------------------------------------------------------------

    def apply(self, steps: t.Iterable[Step]) -> None:
        """Carry out steps in their order, up to the first that fails. Raises KernelError."""
        for step in steps:
            if self._changes is None:
                from .changes import Changes  # imports pyroute2

                self._changes = Changes()
            self._changes.apply(step)
