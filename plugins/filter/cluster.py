# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters about clusters: the functions of module_utils, with errors of filters."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ..module_utils._cluster import buckets as _buckets
from ..module_utils._cluster import cluster, hashing, layout, request
from ..module_utils._ring import audit, away, ring
from ..module_utils._state import files
from ..module_utils._state.cluster import ClusterState


def bucket(
    address: str,
    total_nodes: int = hashing.TOTAL_NODES,
    hash_init: int = hashing.HASH_INIT,
    ports: t.Sequence[int] = (),
    hash_as: str = hashing.DEFAULT,
) -> int:
    """The bucket that a client's address falls into, 1 to total_nodes."""
    if total_nodes < 1:
        raise AnsibleFilterError(f"total_nodes: {total_nodes!r}: there is one bucket at least")
    if hash_as not in hashing.HASHES:
        raise AnsibleFilterError(f"hash_as: {hash_as!r}: the engines are {', '.join(hashing.HASHES)}")
    return _called(hashing.bucket, address, total_nodes, hash_init, tuple(ports), hash_as)


def bucket_member(
    address: str,
    owners: t.Mapping[str, t.Iterable[int]],
    total_nodes: int = hashing.TOTAL_NODES,
    hash_init: int = hashing.HASH_INIT,
    ports: t.Sequence[int] = (),
    hash_as: str = hashing.DEFAULT,
) -> str | None:
    """The member that owns a client's bucket, or None."""
    number = bucket(address, total_nodes, hash_init, ports, hash_as)
    return next((member for member, buckets in owners.items() if number in buckets), None)


def bucket_owners(
    members: t.Sequence[t.Mapping[str, t.Any]],
    total_nodes: int = hashing.TOTAL_NODES,
    previous: t.Mapping[str, t.Iterable[int]] | None = None,
) -> dict[str, list[int]]:
    """Member -> its buckets. As few as possible move away from their previous owners."""
    weights = {m["name"]: m.get("weight", 1) for m in members}
    return _called(_buckets.owners, weights, total_nodes, previous or None)


def cluster_layout(wanted: t.Mapping[str, t.Any], previous: t.Mapping[str, t.Any] | None = None) -> dict[str, t.Any]:
    """The desired state of a cluster on one host: the parameters of the modules that build it."""
    return _called(_cluster_layout, wanted, previous or None)


def _cluster_layout(wanted: t.Mapping[str, t.Any], previous: t.Mapping[str, t.Any] | None) -> dict[str, t.Any]:
    before = files.state_of(previous) if previous else None
    others = [files.state_of(other) for other in wanted.get("others") or []]
    return files.document(layout.layout(request.request_from(wanted), before, others))


def failed_over(wanted: t.Mapping[str, t.Any], found: str = "") -> dict[str, t.Any]:
    """A layout with the buckets of failed members at their present owners. C(found): the file of the claims process."""
    return _called(_failed_over, wanted, found)


def _failed_over(wanted: t.Mapping[str, t.Any], found: str) -> dict[str, t.Any]:
    content = away.parse(found)
    if not content:
        return dict(wanted)
    state = files.state_of(wanted)
    return files.document(away.failed_over(state, content) if isinstance(state, ClusterState) else state)


def cluster_ring(
    wanted: t.Mapping[str, t.Mapping[str, t.Any]], previous: t.Iterable[t.Mapping[str, t.Any]] = ()
) -> dict[str, t.Any]:
    """The ring of a cluster: its hosts, and the slots of each. C(wanted): the settings by the name of the host.

    previous: the rings that the hosts have stored; the newest counts.
    """
    return _called(ring.ring, wanted, previous)


def cluster_audit(found: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[str]:
    """Inconsistencies among the hosts of a cluster, a sentence for each."""
    return _called(audit.audit, found)


def clustermac(address: str) -> str:
    """The default multicast MAC address of a cluster."""
    return _called(cluster.default_clustermac, address)


def _called(function: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
    try:
        return function(*args)
    except ValueError as exc:  # ParameterError is one
        raise AnsibleFilterError(str(exc)) from None  # Ansible would print each cause again


class FilterModule:
    """The plugin that Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name -> function."""
        return {
            "bucket": bucket,
            "bucket_member": bucket_member,
            "bucket_owners": bucket_owners,
            "cluster_audit": cluster_audit,
            "clustermac": clustermac,
            "cluster_layout": cluster_layout,
            "cluster_ring": cluster_ring,
            "failed_over": failed_over,
        }
