# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters about clusters: thin over the pure files in module_utils."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ..module_utils._cluster import buckets as _buckets
from ..module_utils._cluster import cluster, hashing, layout
from ..module_utils._ring import audit, ring


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
    return _said(hashing.bucket, address, total_nodes, hash_init, tuple(ports), hash_as)


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
    """Member -> its buckets, with as few moves from the previous owners as can be."""
    weights = {m["name"]: m.get("weight", 1) for m in members}
    return _said(_buckets.owners, weights, total_nodes, previous or None)


def cluster_layout(wanted: t.Mapping[str, t.Any], previous: t.Mapping[str, t.Any] | None = None) -> dict[str, t.Any]:
    """Everything that a cluster on one host is made of, as parameters of the modules."""
    return _said(layout.layout, wanted, previous)


def cluster_ring(
    wanted: t.Mapping[str, t.Mapping[str, t.Any]], previous: t.Iterable[t.Mapping[str, t.Any]] = ()
) -> dict[str, t.Any]:
    """The hosts of a cluster, and which of them is to have which slots; C(wanted) by the name of the host.

    previous: what each host knows of it; the newest counts.
    """
    return _said(ring.ring, wanted, previous)


def cluster_audit(found: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[str]:
    """What does not fit together among the hosts of a cluster, in sentences."""
    return _said(audit.audit, found)


def clustermac(address: str) -> str:
    """The multicast MAC address of a cluster that was told none."""
    return _said(cluster.default_clustermac, address)


def _said(function: t.Callable[..., t.Any], *args: t.Any) -> t.Any:
    try:
        return function(*args)
    except ValueError as exc:  # ParameterError is one
        raise AnsibleFilterError(str(exc)) from exc


class FilterModule:
    """What Ansible loads."""

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
        }
