# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of the desired state: /etc/clustered-openvpn/NAME.json, and NAME.ring/ring.json of a cluster of many hosts.

Every reader loads them here, and every writer takes their text from here. Files without C(format) are those of
installations before format 1. Nothing here touches the file system: programs and roles read and write.
"""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from . import schema
from .bundle import BundleState
from .cluster import ClusterState, Retired, ServiceAddress
from .ring import RingState

FORMAT = 1

State = t.Union[ClusterState, BundleState]
Stored = t.Union[ClusterState, BundleState, RingState]
T = t.TypeVar("T")


class StateError(ValueError):
    """A file of the desired state cannot be used. The message names its path, the reason and the remedy."""


def damaged(path: str, reason: object) -> StateError:
    """The error of a file that holds no valid state."""
    return StateError(f"{path} is damaged ({reason}): restore it from a backup, or remove it and run the role again")


def load(path: str, content: bytes) -> State:
    """The content of a cluster's or a bundle's file. Raises StateError."""
    state = _loaded(path, content, state_of)
    stem = posixpath.basename(path)[: -len(".json")]
    if state.name != stem:
        reason = f"it holds the desired state of {state.name!r}: copied or renamed"
        raise StateError(f"{path} is damaged ({reason}): remove it, or restore the file of {stem!r}")
    return state


def load_ring(path: str, content: bytes) -> RingState:
    """The content of a ring's file. Raises StateError."""
    return _loaded(path, content, ring_of)


def _loaded(path: str, content: bytes, reader: t.Callable[[t.Any], T]) -> T:
    try:
        document = schema.decode(content)
        number = document.get("format") if isinstance(document, dict) else None
        if isinstance(number, int) and not isinstance(number, bool) and number > FORMAT:
            raise StateError(
                f"{path} was written by a newer release of clustered.openvpn (it reads format {FORMAT} at most):"
                " run the playbook with that release"
            )
        return reader(document)
    except schema.ShapeError as exc:
        raise damaged(path, exc) from exc


def state_of(document: t.Any) -> State:
    """Plain data, with C(format) or without -> the state of a cluster or a bundle. Raises ShapeError."""
    members = _without_format(document)
    if "bundles" in members:
        return schema.parse(BundleState, members)
    return _completed(schema.parse(ClusterState, members))


def ring_of(document: t.Any) -> RingState:
    """Plain data -> a ring. Raises ShapeError."""
    ring = schema.parse(RingState, _without_format(document))
    for name in ("preferred", "members", "claims"):
        for host in ring.hosts:
            if host not in getattr(ring, name):
                raise schema.ShapeError(f"{name}: has no entry of the host {host}")
    return ring


def _without_format(document: t.Any) -> dict[str, t.Any]:
    if not isinstance(document, t.Mapping):
        raise schema.ShapeError("it is not an object")
    number = document.get("format", FORMAT)
    if number != FORMAT or isinstance(number, (bool, float)):
        raise schema.wrong("format", number, str(FORMAT))
    return {name: value for name, value in document.items() if name != "format"}


def _completed(state: ClusterState) -> ClusterState:
    """Releases before IPv6 stored one address, and those with one engine no hash."""
    cluster = state.cluster
    addresses = state.addresses or (ServiceAddress(cluster.address, cluster.clustermac),)
    if not cluster.hash_as:
        cluster = dataclasses.replace(cluster, hash_as="nftables" if cluster.engine == "auto" else cluster.engine)
    return dataclasses.replace(state, cluster=cluster, addresses=addresses)


def document(state: Stored) -> dict[str, t.Any]:
    """A state -> plain data with its format, as the file holds it."""
    return {"format": FORMAT, **schema.plain(state)}


def text(state: Stored) -> str:
    """The content of a state's file."""
    return schema.encode(document(state))


def finished(state: Stored) -> Stored:
    """The state after a complete run: retired resources are removed, and slots have moved."""
    if isinstance(state, ClusterState):
        return dataclasses.replace(state, retired=Retired())
    if isinstance(state, BundleState):
        bundle = dataclasses.replace(state.bundle, former_addresses=())
        return dataclasses.replace(state, retired=(), gone=(), bundles=(bundle,))
    return dataclasses.replace(state, moves={}, held={})
