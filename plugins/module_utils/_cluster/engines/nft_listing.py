# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A listing of a cluster's nftables table -> its owners, its hash, and the recorded sysctls. Pure."""

from __future__ import annotations

import typing as t

from ..._kernel import ruleset
from ..._kernel.ruleset import Listing
from ..cluster import HOST
from ..hashing import HASHES
from .nft_names import CLAIM, OWNED, OWNER, SYSCTLS, UPLINK


def sysctls_in(listing: Listing) -> dict[str, str]:
    """Key -> value of the host's sysctls before the cluster changed them, as its first table records them."""
    remarks = [str(rule.get("comment", "")).rpartition(" #")[0] for rule in ruleset.rules_of(listing, SYSCTLS)]
    return {key: value for key, equals, value in (remark.partition("=") for remark in remarks) if equals}


def owners_on_host(listing: Listing) -> dict[str, set[int]]:
    """MAC address -> buckets, from the host's map; or from its set, if the host is the member."""
    owners: dict[str, set[int]] = {}
    if buckets := buckets_of_member(listing):
        owners[HOST] = buckets
    for bucket, mac in ruleset.elements_of(listing, OWNER).items():
        owners.setdefault(mac, set()).add(int(bucket))
    return owners


def buckets_of_member(listing: Listing) -> set[int]:
    """The buckets in a member's own set."""
    return {int(bucket) for bucket in ruleset.elements_of(listing, OWNED)}


def is_of_member(listing: Listing) -> bool:
    """Whether the table has the set of a member that decides by itself."""
    return any(entry["set"]["name"] == OWNED for entry in listing or [] if "set" in entry)


def hash_in(listing: Listing) -> dict[str, t.Any] | None:
    """The hash that the rules compute: address, total_nodes, hash_init, hash_as; None without such a rule."""
    for rule in [*ruleset.rules_of(listing, UPLINK), *ruleset.rules_of(listing, CLAIM)]:
        jhash = next((found for found in _find(rule["expr"], "jhash") if _has_source(found)), None)
        address = next((m["right"] for m in _find(rule["expr"], "match") if _field(m["left"]) == "daddr"), None)
        if jhash:
            shifted = next(_find(jhash["expr"], ">>"), None) is not None
            hash_as = next(kind.name for kind in HASHES.values() if kind.address_as_number == shifted)
            total, seed = jhash["mod"], jhash.get("seed", 0)
            return {"address": address, "total_nodes": total, "hash_init": seed, "hash_as": hash_as}
    return None


def address_in(listing: Listing) -> str | None:
    """The service address of a table."""
    for rule in ruleset.rules_of(listing, UPLINK):
        for match in _find(rule["expr"], "match"):
            if _field(match["left"]) == "daddr" and isinstance(match["right"], str):
                return match["right"]
    return None


def _has_source(jhash: t.Mapping[str, t.Any]) -> bool:
    return any(_field({"payload": payload}) == "saddr" for payload in _find(jhash.get("expr", {}), "payload"))


def _field(expression: t.Mapping[str, t.Any]) -> str | None:
    payload = expression.get("payload") or {}
    return payload.get("field") if payload.get("protocol") in ("ip", "ip6") else None


def _find(tree: t.Any, key: str) -> t.Iterator[t.Any]:
    """Every value of a key, at any depth of the listing."""
    if isinstance(tree, list):
        for branch in tree:
            yield from _find(branch, key)
    elif isinstance(tree, dict):
        for name, branch in tree.items():
            if name == key:
                yield branch
            yield from _find(branch, key)
