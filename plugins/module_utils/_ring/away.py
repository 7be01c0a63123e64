# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Buckets away from their members, since these failed: the file that the claims process writes, and its readers.

The file is in /run: member -> C(since), in seconds since 1970, and C(buckets), by the member that has them now.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import typing as t

from .._kernel import kernel as _kernel
from .._kernel import ruleset
from .._kernel.observed import View
from .._state.cluster import ClusterState
from . import siblings
from .failover import Failover, failover_from
from .paths import away as path_of

Moved = dict[str, dict[str, list[int]]]  # member -> the member that has its buckets -> the buckets
Content = dict[str, dict[str, t.Any]]


def parse(text: str | bytes) -> Content:
    """The content of the file; empty if it is damaged: the owners in the kernel count then. Pure."""
    try:
        found = json.loads(text)
        return {
            str(member): {
                "since": float(one["since"]),
                "buckets": {str(owner): [int(bucket) for bucket in some] for owner, some in one["buckets"].items()},
            }
            for member, one in found.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def owners_in(content: Content) -> siblings.Owners:
    """Bucket -> the member that has it now. Pure."""
    return {b: owner for one in content.values() for owner, some in one["buckets"].items() for b in some}


def sentences(content: Content) -> list[str]:
    """The content for the administrator. Pure."""
    found = []
    for member, one in sorted(content.items()):
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["since"]))
        shares = ", ".join(f"{len(some)} at {owner}" for owner, some in sorted(one["buckets"].items()))
        count = sum(map(len, one["buckets"].values()))
        found.append(f"{count} buckets are moved away from {member} since {since} ({shares})")
    return found


def failed_over(state: ClusterState, content: Content) -> ClusterState:
    """The state with the buckets of failed members at the members that have them now. Pure."""
    home = {bucket: member.name for member in state.members for bucket in member.local_nodes}
    weights = {member.name: member.weight for member in state.members}
    healthy = [member for member in weights if member not in content]
    return with_owners(state, siblings.shared_out(home, weights, healthy, {**home, **owners_in(content)}))


def with_owners(state: ClusterState, owners: t.Mapping[int, str]) -> ClusterState:
    """The state with other owners of its buckets. Pure."""
    held: dict[str, list[int]] = {}
    for bucket, owner in sorted(owners.items()):
        held.setdefault(owner, []).append(bucket)
    mine = {member.name: tuple(held.get(member.name, ())) for member in state.members}
    servers = {server.name: server.netns for server in state.servers}
    return dataclasses.replace(
        state,
        nodes=tuple(dataclasses.replace(node, local_nodes=mine[node.netns]) for node in state.nodes),
        holders=tuple(dataclasses.replace(one, local_nodes=mine[servers[one.name]]) for one in state.holders),
    )


def read(path: str) -> Content:
    """The file's content; empty if it does not exist."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        return parse(file.read())
    return {}


def present_owners(failover: Failover, path: str) -> siblings.Owners:
    """Bucket -> the member that has it: as the kernel says, and if that has lost it, as the file says."""
    claims = failover.claims
    names = {mac: member for member, mac in claims.macs.items()}
    with _kernel.Kernel() as kernel:
        keys = [("", family, table) for family, table, _kind in claims.tables]
        listings = kernel.tables(keys, {"": View("", True)})
    owners = owners_in(read(path))
    for key, (_family, _table, kind) in zip(reversed(keys), reversed(claims.tables)):
        elements = ruleset.elements_of(listings[key], kind.split()[-1])
        owners.update({int(bucket): names[str(mac)] for bucket, mac in elements.items() if mac in names})
    return owners


def as_held(state: ClusterState) -> ClusterState:
    """The state with the present owners, if the members of the host replace each other: where they are is no drift."""
    if state.failover is None or state.failover.keepalived:
        return state
    failover = failover_from(state)
    owners = siblings.completed(failover.home or {}, present_owners(failover, path_of(state.name)))
    return with_owners(state, owners)


class Away:
    """The file, written when its content changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._content = read(path)

    def update(self, moved: Moved) -> None:
        """Write who has which buckets. Since when: of a member that was in the file, as before."""
        now = round(time.time(), 1)
        since = {member: self._content[member]["since"] if member in self._content else now for member in moved}
        content: Content = {member: {"since": since[member], "buckets": some} for member, some in moved.items()}
        if content == self._content:
            return
        self._content = content
        if not content:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            return
        with open(f"{self._path}.new", "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(f"{self._path}.new", self._path)
