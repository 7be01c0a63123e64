# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The VRRP filter, as the role writes it, on a real kernel: each loss of it is seen, and repaired."""

from __future__ import annotations

import os
import re
import typing as t
from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.kernel import Kernel
from ansible_collections.clustered.openvpn.plugins.module_utils._ring.vrrp_filter import VrrpFilter, vrrp_filter

from .world import sh, within

TEXT = Path(__file__).parents[1] / "unit/roles/golden/multicast-vrrp.nft"
TABLE = t.cast(re.Match[str], re.search(r"^table ip (\S+)$", TEXT.read_text(), re.M))[1]
WANTED = VrrpFilter(TABLE, str(TEXT))
LOSSES = {
    "all rules flushed": "nft flush ruleset",
    "table deleted": f"nft delete table ip {TABLE}",
    "table flushed": f"nft flush table ip {TABLE}",
    "rule added": f"nft insert rule ip {TABLE} slots accept",
    "policy turned": f"nft chain ip {TABLE} input '{{ policy drop; }}'",
    "chain added": f"nft add chain ip {TABLE} other",
}


@pytest.fixture(scope="module")
def host() -> t.Iterator[str]:
    """A namespace with the filter."""
    name = f"f{os.getpid()}-host"
    sh(f"ip netns add {name}")
    try:
        assert len(repair(name)) == 1
        yield name
    finally:
        sh(f"ip netns del {name}")


def repair(host: str, present: bool = True) -> list[str]:
    """Apply the filter: the steps taken."""
    with within(host), Kernel() as kernel:
        steps = vrrp_filter(kernel, WANTED, present).steps
        kernel.apply(steps)
        return [step.text for step in steps]


def test_the_filter_that_is_loaded_is_the_desired_one(host: str) -> None:
    before = sh("nft list ruleset", host)
    assert repair(host) == []
    assert sh("nft list ruleset", host) == before


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_is_repaired(host: str, loss: str) -> None:
    before = sh("nft list ruleset", host)
    sh(LOSSES[loss], host)
    assert len(repair(host)) == 1
    assert sh("nft list ruleset", host) == before
    assert repair(host) == []


def test_a_removal_leaves_nothing(host: str) -> None:
    sh("nft add table ip beside", host)
    assert len(repair(host, present=False)) == 1
    assert sh("nft list ruleset", host) == "table ip beside {\n}"
    assert repair(host, present=False) == []
