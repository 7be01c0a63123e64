# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Desired iptables rules and the output of iptables-save -> the input of one iptables-restore. Pure.

As with nftables, a rule is identified by its comment, which ends in a digest of its text. In each table the rules are
in a chain of their own, named like the cluster's nftables tables. Jumps to that chain are at the head of built-in ones.
"""

from __future__ import annotations

import hashlib
import shlex
import typing as t
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """A rule and its purpose, for the comment.

    C(start): options that matter only when the rule is added. iptables-save does not print them; not in the digest.
    """

    text: str
    purpose: str
    target: str = ""
    start: str = ""

    @property
    def comment(self) -> str:
        """The purpose, then the digest that identifies the rule."""
        digest = hashlib.sha256(f"{self.text}|{self.target}".encode()).hexdigest()[:8]
        return f"{self.purpose} #{digest}"

    def line(self, comment: str) -> str:
        """The rule as arguments of iptables."""
        words = (self.text, f'-m comment --comment "{comment}"', f"-j {self.target}", self.start)
        return " ".join(word for word in words if word)


Place = tuple[str, str]  # table and chain


@dataclass(frozen=True)
class Rules:
    """A cluster's rules in a namespace. C(own): of its chain, by table; C(first): at the head of built-in chains."""

    name: str
    own: t.Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    first: t.Mapping[Place, tuple[Rule, ...]] = field(default_factory=dict)

    def by_place(self) -> dict[Place, list[tuple[Rule, str]]]:
        """All rules with their comments, by table and chain. In built-in chains, the comments start with C(name)."""
        own = {(table, self.name): [(rule, rule.comment) for rule in rules] for table, rules in self.own.items()}
        first = {
            place: [(rule, f"{self.name}: {rule.comment}") for rule in rules] for place, rules in self.first.items()
        }
        return {**own, **first}


def plan(want: Rules, have: t.Sequence[str]) -> list[str]:
    """Lines of iptables-restore that change the observed rules into the desired ones; empty when nothing differs.

    A table that differs is rebuilt in one transaction, so no packet meets it without rules.
    """
    observed, desired = _observed(want.name, have), want.by_place()
    lines: list[str] = []
    for table in sorted({table for table, _chain in [*observed, *desired]}):
        old = {place: rules for place, rules in observed.items() if place[0] == table}
        new = {place: rules for place, rules in desired.items() if place[0] == table}
        if {place: [comment for comment, _line in rules] for place, rules in old.items()} != {
            place: [comment for _rule, comment in rules] for place, rules in new.items()
        }:
            lines += _rebuilt(want.name, table, old, new)
    return lines


def printed(rules: Rules) -> list[str]:
    """The lines that iptables-save will print for the rules."""
    lines = []
    for (table, chain), some in rules.by_place().items():
        lines += [f"*{table}", f":{chain} - [0:0]"]
        lines += [f"-A {chain} {rule.line(comment)}" for rule, comment in some]
    return lines


def ours(name: str, have: t.Sequence[str]) -> dict[Place, list[str]]:
    """The lines of the cluster's rules, as iptables-save printed them."""
    return {place: [line for _comment, line in rules] for place, rules in _observed(name, have).items()}


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
    old: t.Mapping[Place, t.Sequence[tuple[str | None, str]]],
    new: t.Mapping[Place, t.Sequence[tuple[Rule, str]]],
) -> t.Iterator[str]:
    yield f"*{table}"
    own = (table, name)
    for place, lines in old.items():
        if place != own:
            yield from (line.replace("-A ", "-D ", 1) for _comment, line in lines)
    if own in new:
        yield f":{name} - [0:0]"  # creates the chain, or flushes it
        yield from (f"-A {name} {rule.line(comment)}" for rule, comment in new[own])
    elif own in old:
        yield f"-F {name}"
        yield f"-X {name}"
    for place, rules in new.items():
        if place != own:
            yield from (f"-I {place[1]} {i} {rule.line(comment)}" for i, (rule, comment) in enumerate(rules, 1))
    yield "COMMIT"


def _observed(name: str, have: t.Sequence[str]) -> dict[Place, list[tuple[str | None, str]]]:
    """The cluster's rules as (comment, line), by table and chain."""
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
