# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether resources have changed that the kernel does not announce to a process of the host. Microseconds, no commands.

These are proxy entries, sysctls, and everything in other namespaces. No socket stays open there: it would keep a
deleted namespace alive. A descriptor of a file in /proc/sys does not; once its namespace is gone, it cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import dataclass, field

from . import links, namespaces, nft, rtnetlink, sysctl
from .kernel import Kernel
from .observed import View

RTA_CACHEINFO = 12  # ages of IPv6 routes
RARELY = 40  # comparisons: of links, where most changes show in the routes, and of all that should be announced

RTM_GETRULE, FIB_RULE_HDR = 34, rtnetlink.RTMSG  # of the same size


@dataclass
class Footprint:
    """The resources that planners have read: so a glance compares the same, without a list of its own."""

    netnses: set[str] = field(default_factory=set)
    sysctls: dict[str, set[str]] = field(default_factory=dict)  # by namespace
    proxies: bool = False


class RecordingKernel(Kernel):
    """A kernel that records the resources that are read."""

    def __init__(self, unimportant: t.Collection[str] = ()) -> None:
        """unimportant: sysctls of interfaces that need no comparison, by the last word of their keys."""
        super().__init__()
        self.footprint = Footprint()
        self._unimportant = unimportant

    def observe(
        self,
        netnses: t.Iterable[str],
        parts: t.Collection[str] = links.PARTS,
        sysctls: t.Mapping[str, t.Iterable[str]] | None = None,
        proxies: t.Iterable[tuple[str, str]] = (),
    ) -> dict[str, View]:
        names, asked = list(netnses), list(proxies)
        keys = {netns: list(one) for netns, one in (sysctls or {}).items()}
        self.footprint.netnses.update(names)
        self.footprint.proxies |= bool(asked)
        for netns, one in keys.items():
            self.footprint.sysctls.setdefault(netns, set()).update(
                key for key in one if key.replace("/", ".").rpartition(".")[2] not in self._unimportant
            )
        return super().observe(names, parts, keys, asked)


class Glance:
    """Compares the footprint with its state when this was created. A context manager."""

    def __init__(self, footprint: Footprint, announced: t.Container[str] = ()) -> None:
        """announced: other namespaces whose changes are announced; they are compared once a minute."""
        self._announced = announced
        self._home = os.open(namespaces.OWN, os.O_RDONLY | os.O_CLOEXEC)
        self._netnses = sorted(footprint.netnses - {""})
        self._reader = rtnetlink.Reader() if footprint.proxies else None
        self._count = 0
        self._files: list[tuple[str, int, bytes]] = []  # a sysctl, its descriptor and its value
        for netns, keys in footprint.sysctls.items():
            with contextlib.suppress(FileNotFoundError), namespaces.within(netns):
                for key in sorted(keys):
                    with contextlib.suppress(FileNotFoundError):
                        descriptor = os.open(sysctl.path(key), os.O_RDONLY | os.O_CLOEXEC)
                        self._files.append(
                            (f"{netns}{':' * bool(netns)}{key}", descriptor, os.pread(descriptor, 256, 0))
                        )
        self._proxies = self._proxy_entries()
        self._inside: dict[str, tuple[t.Any, ...]] = {}
        self._links: dict[str, tuple[t.Any, ...]] = {}
        list(self._look_inside())

    def __enter__(self) -> Glance:
        return self

    def __exit__(self, *exc_info: t.Any) -> None:
        self.close()

    def close(self) -> None:
        """Close all descriptors."""
        os.close(self._home)
        if self._reader is not None:
            self._reader.close()
        for _key, descriptor, _value in self._files:
            os.close(descriptor)

    def changes(self) -> list[str]:
        """The changes, as sentences for the journal; empty without any."""
        found = []
        for key, descriptor, value in self._files:
            try:
                now = os.pread(descriptor, 256, 0)
            except OSError:  # its interface or namespace is gone
                now = b"gone"
            if now != value:
                found.append(f"sysctl {key} changed")
        if self._proxy_entries() != self._proxies:
            found.append("proxy entries changed")
        found.extend(self._look_inside())
        return found

    def _proxy_entries(self) -> bytes:
        if self._reader is None:
            return b""
        return self._reader.raw(rtnetlink.RTM_GETNEIGH, rtnetlink.NDMSG.pack(0, 0, 0, rtnetlink.NTF_PROXY, 0))

    def _look_inside(self) -> t.Iterator[str]:
        """Compare the other namespaces with the glance before. From one to the next, and home at the end."""
        with_links = self._count % RARELY == 0
        self._count += 1
        netnses = [netns for netns in self._netnses if with_links or netns not in self._announced]
        try:
            for netns in netnses:
                now, interfaces = self._inside_of(netns, with_links)
                if netns in self._inside and not _same(self._inside[netns], now):
                    yield f"routes, addresses or rules in {netns} changed"
                elif with_links and netns in self._links and interfaces != self._links[netns]:
                    yield f"links in {netns} changed"
                self._inside[netns] = now
                if with_links:
                    self._links[netns] = interfaces
        finally:
            if netnses:
                namespaces.enter(self._home)

    def _inside_of(self, netns: str, with_links: bool) -> tuple[tuple[t.Any, ...], tuple[t.Any, ...]]:
        try:
            descriptor = os.open(namespaces.path(netns), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return (), ()
        try:
            namespaces.enter(descriptor)
        except OSError:  # a file on which no namespace is mounted
            return (), ()
        finally:
            os.close(descriptor)
        with rtnetlink.Reader() as reader:
            routes = reader.raw(rtnetlink.RTM_GETROUTE, bytes(rtnetlink.RTMSG.size))
            rules = reader.raw(RTM_GETRULE, bytes(FIB_RULE_HDR.size))
            interfaces = _links(reader) if with_links else ()
        return (nft.generation(), routes, rules), interfaces


def _same(before: tuple[t.Any, ...], now: tuple[t.Any, ...]) -> bool:
    """Whether two looks inside found the same. The bytes are equal but for ages, sequence numbers and ports."""
    return before == now or _decoded(before) == _decoded(now)


def _decoded(inside: tuple[t.Any, ...]) -> tuple[t.Any, ...]:
    return tuple(
        rtnetlink.messages(one, rtnetlink.RTMSG, (RTA_CACHEINFO,)) if isinstance(one, bytes) else one for one in inside
    )


def _links(reader: rtnetlink.Reader) -> tuple[t.Any, ...]:
    """Index, flags, name, MAC address and MTU of each interface; without counters."""
    kept = (rtnetlink.IFLA_IFNAME, rtnetlink.IFLA_ADDRESS, rtnetlink.IFLA_MTU)
    return tuple((fixed[2:4], *(attributes.get(one) for one in kept)) for fixed, attributes in reader.links())
