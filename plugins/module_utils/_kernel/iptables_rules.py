# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of iptables: what there should be and what iptables-save prints -> the lines of one iptables-restore. Pure.

As with nftables, a rule is recognised by its comment, which ends in a digest of its text. Our rules are in a chain of
our own in each table, called as the cluster's nftables tables, but for the jump to it and its like.
"""

from __future__ import annotations

import hashlib
import shlex
import typing as t
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """A rule and its purpose in words. C(start): what the kernel needs at first and forgets, no part of the digest."""

    text: str
    purpose: str
    target: str = ""
    start: str = ""

    @property
    def comment(self) -> str:
        """The purpose, then the digest by which the rule is recognised."""
        digest = hashlib.sha256(f"{self.text}|{self.target}".encode()).hexdigest()[:8]
        return f"{self.purpose} #{digest}"

    def line(self, comment: str) -> str:
        """The rule in the words of iptables."""
        words = (self.text, f'-m comment --comment "{comment}"', f"-j {self.target}", self.start)
        return " ".join(word for word in words if word)


Place = tuple[str, str]  # table and chain


@dataclass(frozen=True)
class Rules:
    """Those of a cluster in a namespace. C(own): our chain's, by table; C(first): those that head the kernel's own."""

    name: str
    own: t.Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    first: t.Mapping[Place, tuple[Rule, ...]] = field(default_factory=dict)

    def by_place(self) -> dict[Place, list[tuple[Rule, str]]]:
        """All of them, with their comments. Among the rules of others, ours begin with our name."""
        own = {(table, self.name): [(rule, rule.comment) for rule in rules] for table, rules in self.own.items()}
        first = {
            place: [(rule, f"{self.name}: {rule.comment}") for rule in rules] for place, rules in self.first.items()
        }
        return {**own, **first}


def plan(want: Rules, have: t.Sequence[str]) -> list[str]:
    """Lines that bring what iptables-save printed to what should be; empty when nothing differs.

    A table whose rules differ has them all made anew, which for packets is one moment.
    """
    seen, wanted = _seen(want.name, have), want.by_place()
    lines: list[str] = []
    for table in sorted({table for table, _chain in [*seen, *wanted]}):
        here = {place: rules for place, rules in seen.items() if place[0] == table}
        there = {place: rules for place, rules in wanted.items() if place[0] == table}
        if {place: [comment for comment, _line in rules] for place, rules in here.items()} != {
            place: [comment for _rule, comment in rules] for place, rules in there.items()
        }:
            lines += _rebuilt(want.name, table, here, there)
    return lines


def printed(rules: Rules) -> list[str]:
    """What iptables-save is going to print of them."""
    lines = []
    for (table, chain), some in rules.by_place().items():
        lines += [f"*{table}", f":{chain} - [0:0]"]
        lines += [f"-A {chain} {rule.line(comment)}" for rule, comment in some]
    return lines


def ours(name: str, have: t.Sequence[str]) -> dict[Place, list[str]]:
    """Our rules' lines, as iptables-save printed them."""
    return {place: [line for _comment, line in rules] for place, rules in _seen(name, have).items()}


def chains(have: t.Sequence[str]) -> set[str]:
    """The names of all chains."""
    return {line[1:].split()[0] for line in have if line.startswith(":")}


def option(line: str, name: str) -> str | None:
    """The value of an option in a line."""
    words = shlex.split(line)
    return words[words.index(name) + 1] if name in words[:-1] else None


def _rebuilt(
    name: str,
    table: str,
    here: t.Mapping[Place, t.Sequence[tuple[str | None, str]]],
    there: t.Mapping[Place, t.Sequence[tuple[Rule, str]]],
) -> t.Iterator[str]:
    yield f"*{table}"
    own = (table, name)
    for place, seen in here.items():
        if place != own:
            yield from (line.replace("-A ", "-D ", 1) for _comment, line in seen)
    if own in there:
        yield f":{name} - [0:0]"  # makes it, or empties it
        yield from (f"-A {name} {rule.line(comment)}" for rule, comment in there[own])
    elif own in here:
        yield f"-F {name}"
        yield f"-X {name}"
    for place, rules in there.items():
        if place != own:
            yield from (f"-I {place[1]} {i} {rule.line(comment)}" for i, (rule, comment) in enumerate(rules, 1))
    yield "COMMIT"


def _seen(name: str, have: t.Sequence[str]) -> dict[Place, list[tuple[str | None, str]]]:
    """Our rules: their comments, and their lines."""
    found: dict[Place, list[tuple[str | None, str]]] = {}
    table = ""
    for line in have:
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(f":{name} "):
            found[table, name] = []
        elif line.startswith("-A "):
            chain, comment = line.split(" ", 2)[1], option(line, "--comment")
            if chain == name or (comment or "").startswith(f"{name}: "):
                found.setdefault((table, chain), []).append((comment, line))
    return found
