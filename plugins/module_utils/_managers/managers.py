# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that keep the host's network managers away from the links of a cluster or bundle. Pure.

systemd-networkd ships C(80-container-ve.network), which matches C(ve-*): it would take a member's link out of its
bridge, and run a DHCP server and NAT on it. The other managers configure any new link that they find.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .. import _params as p
from .._kernel.steps import Step, step

MARK = "# Managed by Ansible, clustered.openvpn.network_managers: changes made here are overwritten."


@dataclass(frozen=True)
class Links:
    """The links that a cluster or bundle makes in the host's own namespace."""

    name: str
    interfaces: tuple[str, ...]


class Manager(t.Protocol):
    """A network manager: its file for a cluster, and the command with which it reads the file."""

    name: str
    reload: tuple[str, ...]

    def path(self, cluster: str) -> str:
        """The file."""

    def content(self, links: Links, current: str | None) -> str | None:
        """The content of the file, which is C(current) now; None: no file. Raises ParameterError."""

    def release(self, taken: tuple[str, ...]) -> tuple[str, ...]:
        """The command that makes it release links whose file it had not read when they appeared."""


class _OwnFile(Manager):
    """A manager with a directory of configuration files, of which one is ours."""

    def text(self, links: Links) -> str:
        """The content of the file."""
        raise NotImplementedError

    def content(self, links: Links, current: str | None) -> str | None:
        if current is not None and not current.startswith(MARK):
            path = self.path(links.name)
            raise p.ParameterError("name", links.name, f"{path} exists and is not of this collection; remove it")
        return self.text(links) if links.interfaces else None


class Networkd(_OwnFile):
    """systemd-networkd. Of all files that match a link, it takes the first in the order of their names."""

    name = "systemd-networkd"
    reload = ("networkctl", "reload")

    def path(self, cluster: str) -> str:
        return f"/etc/systemd/network/00-clustered-openvpn-{cluster}.network"

    def text(self, links: Links) -> str:
        names = "".join(f"Name={name}\n" for name in links.interfaces)
        return f"{MARK}\n[Match]\n{names}\n[Link]\nUnmanaged=yes\n"

    def release(self, taken: tuple[str, ...]) -> tuple[str, ...]:
        return ("networkctl", "reconfigure", *taken)


class NetworkManager(_OwnFile):
    """NetworkManager. Lists of several files add up by C(+=)."""

    name = "NetworkManager"
    reload = ("systemctl", "reload", "NetworkManager.service")

    def path(self, cluster: str) -> str:
        return f"/etc/NetworkManager/conf.d/00-clustered-openvpn-{cluster}.conf"

    def text(self, links: Links) -> str:
        specification = ";".join(f"interface-name:={name}" for name in links.interfaces)
        return f"{MARK}\n[keyfile]\nunmanaged-devices+={specification}\n"

    def release(self, taken: tuple[str, ...]) -> tuple[str, ...]:
        del taken
        return self.reload


class Dhcpcd(Manager):
    """dhcpcd. It has one file; options are global in front of the first C(interface) line, so our block is on top."""

    name = "dhcpcd"
    reload = ("dhcpcd", "--rebind")

    def path(self, cluster: str) -> str:
        del cluster
        return "/etc/dhcpcd.conf"

    def content(self, links: Links, current: str | None) -> str | None:
        if current is None:
            return None
        begin, end = (f"# {edge} clustered.openvpn {links.name}\n" for edge in ("BEGIN", "END"))
        before, found, rest = current.partition(begin)
        if found:
            _block, closed, after = rest.partition(end)
            if not closed:
                remedy = f"the block {begin[2:-1]!r} of /etc/dhcpcd.conf has no end; remove it"
                raise p.ParameterError("name", links.name, remedy)
            current = before + after
        if not links.interfaces:
            return current
        return f"{begin}{MARK}\ndenyinterfaces {' '.join(links.interfaces)}\n{end}{current}"

    def release(self, taken: tuple[str, ...]) -> tuple[str, ...]:
        del taken
        return self.reload


MANAGERS: tuple[Manager, ...] = (Networkd(), NetworkManager(), Dhcpcd())


@dataclass(frozen=True)
class Seen:
    """Network managers of the host: by name, which are installed and which run; the content of their files by path.

    taken: links that a manager has configured although our file says otherwise.
    """

    installed: frozenset[str] = frozenset()
    running: frozenset[str] = frozenset()
    files: t.Mapping[str, str] = field(default_factory=dict)
    taken: t.Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def links_from(name: str, interfaces: t.Iterable[str]) -> Links:
    """The links, validated. Raises ParameterError."""
    found = tuple(sorted({p.interface_name(f"interfaces[{i}]", item) for i, item in enumerate(interfaces)}))
    for one in found:
        if any(character in one for character in "*?[];,!"):
            raise p.ParameterError("interfaces", one, "network managers read it as a pattern; use another name")
    return Links(name, found)


def plan(links: Links, present: bool, seen: Seen) -> list[Step]:
    """Steps that write or remove the file of each manager, and make a running one read it."""
    steps = []
    for manager in MANAGERS:
        path = manager.path(links.name)
        current = seen.files.get(path)
        if present and manager.name not in seen.installed:
            continue
        wanted = manager.content(links if present else Links(links.name, ()), current)
        running = manager.name in seen.running
        if wanted != current:
            steps.append(step("file_remove", path=path) if wanted is None else step("file", path=path, content=wanted))
            if running:
                steps.append(step("command", words=manager.reload))
        elif present and running and (taken := seen.taken.get(manager.name)):
            steps.append(step("command", words=manager.release(taken)))
    return steps
