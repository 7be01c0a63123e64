# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._ring import vrrp_filter
from ansible_collections.clustered.openvpn.plugins.module_utils._ring.vrrp_filter import VrrpFilter

TABLE = "clustered_openvpn_vpn.vrrp"
TEXT = f"# Managed by Ansible\ntable ip {TABLE}\ndelete table ip {TABLE}\n\ntable ip {TABLE} {{\n}}\n"
LISTING = [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "ip", "name": TABLE, "handle": 7}}]


class FakeKernel:
    """A kernel with this table."""

    def __init__(self, listing: t.Any, loaded: t.Any = None) -> None:
        self.listing, self.text = listing, loaded

    def tables(self, keys: t.Iterable[t.Any], _views: t.Any) -> dict[t.Any, t.Any]:
        return dict.fromkeys(keys, self.listing)

    def loaded(self, *_args: str) -> t.Any:
        return self.text


def plan(kernel: FakeKernel, path: Path | None, present: bool = True) -> t.Any:
    return vrrp_filter.vrrp_filter(t.cast(t.Any, kernel), VrrpFilter(TABLE, path and str(path)), present)


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    path = tmp_path / "vrrp.nft"
    path.write_text(TEXT)
    return path


def test_a_table_that_is_missing_or_differs_is_loaded_from_the_text_of_the_role(file: Path) -> None:
    other = [*LISTING, {"chain": {"name": "input", "handle": 8}}]
    for kernel in (FakeKernel(None), FakeKernel(LISTING, other), FakeKernel(other, LISTING)):
        (step,) = plan(kernel, file).steps
        assert step.args["lines"] == [line for line in TEXT.splitlines() if line and line[0] != "#"]


def test_numbers_that_the_kernel_chooses_are_no_difference(file: Path) -> None:
    same = [{"metainfo": {}}, {"table": {"family": "ip", "name": TABLE, "handle": 1}}]
    assert plan(FakeKernel(LISTING, same), file).steps == []


@pytest.mark.parametrize("present", [True, False])
def test_without_failover_the_table_is_removed(present: bool) -> None:
    (step,) = plan(FakeKernel(LISTING), None, present).steps
    assert step.args["lines"] == [f"delete table ip {TABLE}"]
    assert plan(FakeKernel(None), None, present).steps == []


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    planned = plan(FakeKernel(None), tmp_path / "vrrp.nft")
    assert planned.steps == []
    (missing,) = planned.missing
    assert missing == f"{tmp_path}/vrrp.nft: no such file; run the role clusterip_cluster, which writes it"
