# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.ruleset import (
    Chain,
    Rule,
    Table,
    plan_no_table,
    plan_table,
    rules_of,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.steps import step
from ansible_collections.clustered.openvpn.tests.unit.plugins.module_utils.model import MACS, Model

HOOK = "filter hook input priority 0"
RULES = (Rule("udp dport 1 accept", "one"), Rule("udp dport 2 accept", "two"), Rule("drop", "nobody"))
ELEMENTS = {1: MACS[1], 2: MACS[1], 3: MACS[2]}
AT = "ip t"


def table(rules=RULES, elements=None, **others):
    chains = {"c": Chain(HOOK, tuple(rules)), **others}
    return Table("ip", "t", chains, {"m": "type mark : ether_addr"}, {"m": ELEMENTS if elements is None else elements})


def made(want):
    model = Model()
    converge(model, want)
    return model


def converge(model, want):
    """Apply the planned lines and return them; a second plan is empty."""
    lines = plan_table(want, model.listings["", "ip", "t"])
    if lines:
        model.apply([step("nft", lines=lines)])
    assert plan_table(want, model.listings["", "ip", "t"]) == []
    return lines


def by_hand(model, *lines):
    model.apply([step("nft", lines=lines)])


RULE_SETS = st.lists(st.sampled_from(RULES), unique=True)
TABLES = st.builds(
    table,
    RULE_SETS,
    st.dictionaries(st.integers(1, 6), st.sampled_from(MACS)),
    other=st.builds(Chain, st.sampled_from([HOOK, "filter hook output priority 0"]), RULE_SETS.map(tuple)),
)


@given(TABLES, TABLES)
def test_any_table_becomes_any_other(before, after):
    model = made(before)
    converge(model, after)
    listing = model.listings["", "ip", "t"]
    assert [len(rules_of(listing, name)) for name in after.chains] == [len(c.rules) for c in after.chains.values()]


def test_a_new_table_is_whole_in_one_transaction():
    chain = table().chains["c"]
    assert plan_table(table(), None) == [
        f"add table {AT}",
        f"add map {AT} m {{ type mark : ether_addr; }}",
        f"add chain {AT} c {{ type {HOOK}; policy accept; }}",
        *[f'add rule {AT} c {rule.text} comment "{chain.comment(rule)}"' for rule in RULES],
        f"add element {AT} m {{ 1 : {MACS[1]}, 2 : {MACS[1]} }}",
        f"add element {AT} m {{ 3 : {MACS[2]} }}",
    ]


@pytest.mark.parametrize(
    "before",
    [
        table(RULES[:2]),
        table(RULES[1:]),
        table((*RULES, Rule("accept", "one more"))),
        table((RULES[1], RULES[0], RULES[2])),
        table((Rule("udp dport 1 drop", "one"), *RULES[1:])),
        table(other=Chain(HOOK, ())),
    ],
    ids=["removed last", "removed first", "added", "reordered", "changed, of the same purpose", "another chain"],
)
def test_other_rules_lead_to_a_rebuild_that_keeps_the_map(before):
    lines = converge(made(before), table())
    names = list(before.chains)
    assert lines[: 2 * len(names)] == [f"{do} chain {AT} {name}" for do in ("flush", "delete") for name in names]
    assert lines[2 * len(names) :] == [
        line for line in plan_table(table(), None) if " chain " in line or " rule " in line
    ]


@pytest.mark.parametrize("rule", ["counter", 'counter comment "mine"'])
def test_a_rule_of_somebody_else_in_our_chain_leads_to_a_rebuild(rule):
    listing = [*made(table()).listings["", "ip", "t"]]
    comment = {"comment": "mine"} if "mine" in rule else {}
    listing.append({"rule": {"chain": "c", "expr": [{"counter": None}], **comment}})
    assert plan_table(table(), listing)[0] == f"flush chain {AT} c"


def test_forwarding_to_an_interface_that_was_made_anew_leads_to_a_rebuild():
    want = table((Rule('fwd to "br0"', "on", "br0"),))
    listing = made(want).listings["", "ip", "t"]
    # nft shows the number of an interface that is gone.
    stale = [{"rule": {**o["rule"], "expr": [{"fwd": {"dev": 7}}]}} if "rule" in o else o for o in listing]
    assert plan_table(want, stale)[0] == f"flush chain {AT} c"


def test_another_policy_leads_to_a_rebuild():
    listing = made(table()).listings["", "ip", "t"]
    other = [{"chain": {**o["chain"], "policy": "drop"}} if "chain" in o else o for o in listing]
    assert plan_table(table(), other)[0] == f"flush chain {AT} c"


def test_the_same_rule_at_another_hook_has_another_comment():
    assert Chain(HOOK, RULES).comment(RULES[0]) != Chain("filter hook output priority 0", RULES).comment(RULES[0])


@pytest.mark.parametrize(
    ("line", "repair"),
    [
        (f"delete element {AT} m {{ 2 }}", [f"add element {AT} m {{ 2 : {MACS[1]} }}"]),
        (f"add element {AT} m {{ 7 : {MACS[1]} }}", [f"delete element {AT} m {{ 7 }}"]),
    ],
)
def test_an_element_that_differs_is_put_right_alone(line, repair):
    model = made(table())
    by_hand(model, line)
    assert converge(model, table()) == repair


def test_an_element_with_another_value_is_replaced_alone():
    model = made(table(elements={**ELEMENTS, 2: MACS[4]}))
    assert converge(model, table()) == [
        f"delete element {AT} m {{ 2 }}",
        f"add element {AT} m {{ 2 : {MACS[1]} }}",
    ]


def test_a_map_that_is_not_spoken_of_keeps_what_it_holds():
    silent = Table("ip", "t", table().chains, table().maps)
    assert plan_table(silent, made(table()).listings["", "ip", "t"]) == []


def test_a_table_is_removed_once():
    assert plan_no_table("ip", "t", made(table()).listings["", "ip", "t"]) == ["delete table ip t"]
    assert plan_no_table("ip", "t", None) == []
