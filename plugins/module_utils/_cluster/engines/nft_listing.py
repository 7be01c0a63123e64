# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nft lists of a cluster's tables -> who owns what, and how it is hashed. Pure."""

from __future__ import annotations

import typing as t

from ..._kernel import ruleset
from ..._kernel.ruleset import Listing
from .nftables import BEFORE, CLAIM, LOCAL, OWNED, OWNER, UPLINK


def before_in(listing: Listing) -> dict[str, str]:
    """The host's sysctls before the cluster changed them, as its first table remembers them."""
    remarks = [str(rule.get("comment", "")).rpartition(" #")[0] for rule in ruleset.rules_of(listing, BEFORE)]
    return {key: value for key, equals, value in (remark.partition("=") for remark in remarks) if equals}


def held_on_host(listing: Listing) -> dict[str, set[int]]:
    """Who owns what, by the host's map, or the set of a host that is a node itself."""
    held: dict[str, set[int]] = {}
    if mine := held_in_member(listing):
        held[LOCAL] = mine
    for bucket, mac in ruleset.elements_of(listing, OWNER).items():
        held.setdefault(mac, set()).add(int(bucket))
    return held


def held_in_member(listing: Listing) -> set[int]:
    """What a member owns, by its own set."""
    return {int(bucket) for bucket in ruleset.elements_of(listing, OWNED)}


def is_local(listing: Listing) -> bool:
    """Whether the host of this table is a node itself."""
    return any(entry["set"]["name"] == OWNED for entry in listing or [] if "set" in entry)


def hash_in(listing: Listing) -> dict[str, t.Any] | None:
    """What the kernel hashes with: address, total_nodes, hash_init, hash_as; read from the rules themselves."""
    for rule in [*ruleset.rules_of(listing, UPLINK), *ruleset.rules_of(listing, CLAIM)]:
        jhash = next((found for found in _find(rule["expr"], "jhash") if _has_source(found)), None)
        address = next((m["right"] for m in _find(rule["expr"], "match") if _field(m["left"]) == "daddr"), None)
        if jhash:
            hash_as = "clusterip" if next(_find(jhash["expr"], ">>"), None) else "nftables"
            total, seed = jhash["mod"], jhash.get("seed", 0)
            return {"address": address, "total_nodes": total, "hash_init": seed, "hash_as": hash_as}
    return None


def address_in(listing: Listing) -> str | None:
    """The service address that a table is for."""
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
    """Every value under a key, anywhere in what nft listed."""
    if isinstance(tree, list):
        for branch in tree:
            yield from _find(branch, key)
    elif isinstance(tree, dict):
        for name, branch in tree.items():
            if name == key:
                yield branch
            yield from _find(branch, key)
