# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.clustered.openvpn.plugins.filter import bundle, cluster, openvpn, roles, state

FILTERS = cluster.FilterModule().filters()
MEMBERS = [{"name": "a"}, {"name": "b", "weight": 3}]


def test_every_filter_has_its_documentation():
    here = Path(cluster.__file__).parent
    others = (module.FilterModule().filters() for module in (bundle, openvpn, roles, state))
    assert {path.stem for path in here.glob("*.yml")} == {*FILTERS, *(name for filters in others for name in filters)}


def test_bucket_and_its_owner():
    owners = FILTERS["bucket_owners"](MEMBERS)
    assert {m: len(b) for m, b in owners.items()} == {"a": 64, "b": 192}
    for address in ("192.0.2.1", "2001:db8::1"):
        number = FILTERS["bucket"](address)
        assert number in owners[FILTERS["bucket_member"](address, owners)]
    assert FILTERS["bucket"]("192.0.2.1") == 180
    assert FILTERS["bucket"]("192.0.2.1", 7, 0xFFFFFFFF) == 6
    assert FILTERS["bucket_member"]("192.0.2.1", {"a": [179], "b": [181]}) is None


def test_owners_stay_with_the_previous_ones():
    assert FILTERS["bucket_owners"](MEMBERS, 4, {"a": [4], "b": [1, 2, 3]}) == {"a": [4], "b": [1, 2, 3]}
    assert FILTERS["bucket_owners"](MEMBERS, 4, {}) == FILTERS["bucket_owners"](MEMBERS, 4)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("bucket", ("client",), "'client' does not appear to be"),
        ("bucket", ("192.0.2.1", 0), "total_nodes: 0: there is one bucket at least"),
        ("bucket_member", ("192.0.2.1", {}, 0), "total_nodes: 0"),
        ("bucket_owners", ([],), "members: {}: at least one member"),
        ("cluster_layout", ({"name": "VPN"},), "name: 'VPN': a cluster's name"),
    ],
)
def test_errors_are_those_of_filters(name, args, message):
    with pytest.raises(AnsibleFilterError) as error:
        FILTERS[name](*args)
    assert message in str(error.value)
