# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import iptables_rules
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.iptables_rules import Rule, Rules

SOME = Rules(
    "ours",
    {"filter": (Rule("-p udp", "udp goes on", "RETURN"), Rule("", "all else", "DROP"))},
    {("filter", "INPUT"): (Rule("-d 192.0.2.10/32", "the address", "ours"),)},
)
FOREIGN = '-A INPUT -p tcp -m comment --comment "theirs: it\\\'s \\"ours\\"" -j ACCEPT'


def test_what_is_not_there_is_made():
    jump, first, last = (rule.comment for rule in (SOME.first["filter", "INPUT"][0], *SOME.own["filter"]))
    assert iptables_rules.plan(SOME, []) == [
        "*filter",
        ":ours - [0:0]",
        f'-A ours -p udp -m comment --comment "{first}" -j RETURN',
        f'-A ours -m comment --comment "{last}" -j DROP',
        f'-I INPUT 1 -d 192.0.2.10/32 -m comment --comment "ours: {jump}" -j ours',
        "COMMIT",
    ]


def test_what_is_as_it_should_be_stays():
    assert iptables_rules.plan(SOME, iptables_rules.printed(SOME)) == []
    assert (
        iptables_rules.plan(SOME, ["*filter", ":INPUT ACCEPT [1:2]", FOREIGN, *iptables_rules.printed(SOME), "COMMIT"])
        == []
    )


def test_what_is_wanted_no_more_is_removed_and_what_is_of_others_stays():
    printed = ["*filter", FOREIGN, *iptables_rules.printed(SOME)]
    (jump,) = [line for line in printed if line.startswith("-A INPUT -d")]
    removal = ["*filter", jump.replace("-A ", "-D ", 1), "-F ours", "-X ours", "COMMIT"]
    assert sorted(iptables_rules.plan(Rules("ours"), printed)) == sorted(removal)
    assert iptables_rules.plan(Rules("ours"), ["*filter", FOREIGN]) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [line for line in lines if "-j DROP" not in line],
        lambda lines: [*lines, "-A ours -j ACCEPT"],
        lambda lines: [line.replace("all else", "something") for line in lines],
        lambda lines: [line for line in lines if not line.startswith("-A INPUT")],
    ],
)
def test_what_was_damaged_is_made_anew(damage):
    lines = iptables_rules.plan(SOME, damage(iptables_rules.printed(SOME)))
    assert ":ours - [0:0]" in lines
    assert len([line for line in lines if line.startswith("-A ours ")]) == 2
    assert len([line for line in lines if line.startswith("-I INPUT 1 ")]) == 1


def test_another_table_is_left_alone():
    more = replace(SOME, own={**SOME.own, "mangle": (Rule("", "closed", "DROP"),)})
    lines = iptables_rules.plan(more, iptables_rules.printed(SOME))
    assert lines[0] == "*mangle"
    assert "*filter" not in lines


def test_what_the_kernel_forgets_makes_no_difference():
    one, other = (Rules("ours", {"filter": (Rule("", "hash", "CLUSTERIP", f"--local-node {n}"),)}) for n in (1, 2))
    assert iptables_rules.plan(one, iptables_rules.printed(other)) == []
