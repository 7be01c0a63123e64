# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A desired nftables table and the listing of nft -> the lines of one transaction. Pure.

A rule is identified by its comment, which ends in a digest of its text: versions of nft print rules differently, but
comments unchanged. Rules that were changed, added, removed or moved by hand are detected.
"""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """A rule and its purpose, for the comment. C(fwd): the interface of a C(fwd to) statement in it."""

    text: str
    purpose: str
    fwd: str | None = None


@dataclass(frozen=True)
class Chain:
    """A chain and its rules in order. C(hook): C(filter hook input priority filter), for example.

    A chain without a hook sees no packets; its rules' comments hold data.
    """

    hook: str
    rules: tuple[Rule, ...]

    def comment(self, rule: Rule) -> str:
        """The rule's purpose, then the digest that identifies it."""
        return f"{rule.purpose} #{hashlib.sha256(f'{self.hook}|{rule.text}'.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Table:
    """A table. C(elements): map -> {key: value}, or set -> {key: ""}; other elements of these are removed."""

    family: str
    name: str
    chains: t.Mapping[str, Chain]
    maps: t.Mapping[str, str] = field(default_factory=dict)  # name -> declaration
    elements: t.Mapping[str, t.Mapping[t.Any, str]] = field(default_factory=dict)
    sets: t.Mapping[str, str] = field(default_factory=dict)  # name -> declaration

    @property
    def key(self) -> tuple[str, str]:
        """Family and name."""
        return self.family, self.name


Listing = t.Optional[t.Sequence[t.Mapping[str, t.Any]]]  # of Kernel.tables()


def plan_table(want: Table, have: Listing) -> list[str]:
    """Lines that change the listed table into the desired one; empty when nothing differs."""
    at = f"{want.family} {want.name}"
    lines = []
    if have is None:
        lines.append(f"add table {at}")
    listed = {kind: _objects(have, kind) for kind in ("map", "set")}
    desired = {"map": want.maps, "set": want.sets}
    for kind, declarations in desired.items():
        for name, declaration in declarations.items():
            if name not in listed[kind]:
                lines.append(f"add {kind} {at} {name} {{ {declaration}; }}")
    if _chains_of(have) != {
        name: ("accept" if chain.hook else "", [(chain.comment(rule), rule.fwd) for rule in chain.rules])
        for name, chain in want.chains.items()
    }:
        lines.extend(_rebuilt(want, have))
    for kind, names in listed.items():
        lines.extend(f"delete {kind} {at} {name}" for name in names if name not in desired[kind])
    for name, elements in want.elements.items():
        lines.extend(_plan_elements(f"{at} {name}", elements, elements_of(have, name)))
    return lines


def plan_no_table(family: str, name: str, have: Listing) -> list[str]:
    """Lines that remove the table."""
    return [] if have is None else [f"delete table {family} {name}"]


def elements_of(have: Listing, name: str) -> dict[t.Any, str]:
    """The elements of a map or a set; those of a set have the value ""."""
    if name in (sets := _objects(have, "set")):
        return {_key(key): "" for key in sets[name].get("elem", [])}
    return {_key(key): value for key, value in _objects(have, "map").get(name, {}).get("elem", [])}


def _key(key: t.Any) -> t.Any:
    # An element with a comment or a timeout, which another program added, is listed as an object.
    return key["elem"]["val"] if isinstance(key, dict) else key


def rules_of(have: Listing, chain: str) -> list[t.Mapping[str, t.Any]]:
    """The rules of a chain, in order, as nft lists them."""
    return [o["rule"] for o in have or [] if "rule" in o and o["rule"]["chain"] == chain]


def _objects(have: Listing, kind: str) -> dict[str, t.Mapping[str, t.Any]]:
    return {o[kind]["name"]: o[kind] for o in have or [] if kind in o}


def _chains_of(have: Listing) -> dict[str, tuple[str, list[tuple[str | None, str | None]]]]:
    return {
        name: (chain.get("policy", ""), [(rule.get("comment"), _fwd(rule)) for rule in rules_of(have, name)])
        for name, chain in _objects(have, "chain").items()
    }


def _fwd(rule: t.Mapping[str, t.Any]) -> str | None:
    # The kernel stores an index. When the interface was recreated, nft shows the old number instead of a name.
    found = next((e["fwd"] for e in rule["expr"] if "fwd" in e), None)
    return None if found is None else str(found["dev"])


def _rebuilt(want: Table, have: Listing) -> t.Iterator[str]:
    """Rebuild all chains in the same transaction: no packet meets the table without rules."""
    at = f"{want.family} {want.name}"
    for name in _objects(have, "chain"):
        yield f"flush chain {at} {name}"
    for name in _objects(have, "chain"):
        yield f"delete chain {at} {name}"
    for name, chain in want.chains.items():
        yield f"add chain {at} {name}" + (f" {{ type {chain.hook}; policy accept; }}" if chain.hook else "")
        for rule in chain.rules:
            yield f'add rule {at} {name} {rule.text} comment "{chain.comment(rule)}"'


def _plan_elements(at: str, want: t.Mapping[t.Any, str], have: t.Mapping[t.Any, str]) -> t.Iterator[str]:
    gone = sorted(key for key, value in have.items() if want.get(key) != value)
    if gone:
        yield f"delete element {at} {{ {', '.join(str(key) for key in gone)} }}"
    new: dict[str, list[t.Any]] = {}
    for key, value in sorted(want.items()):
        if have.get(key) != value:
            new.setdefault(value, []).append(key)
    for value, keys in new.items():
        yield f"add element {at} {{ {', '.join(f'{key} : {value}' if value else str(key) for key in keys)} }}"
