# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Engines and uplinks are asked, not recognised by their names: a new one is one file and one line in its registry."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import hashing
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.engines.registry import ENGINES
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster.uplinks.registry import UPLINKS

ROOT = Path(__file__).parents[5]
CLUSTER = ROOT / "plugins/module_utils/_cluster"
NAMES = {*ENGINES, *UPLINKS, *hashing.HASHES}
FILES = [
    path
    for path in sorted((ROOT / "plugins").rglob("*.py"))
    if not {CLUSTER / "engines", CLUSTER / "uplinks"} & set(path.parents)
]


def names_compared(text: str) -> list[int]:
    """The lines that compare with a name, or look one up in a table of their own."""
    found = []
    for node in ast.walk(ast.parse(text)):
        operands: list[ast.AST | None] = []
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.value, ast.Dict):
            operands = [node.value]  # {…}[engine], {…}.get(engine)
        for operand in operands:
            parts = getattr(operand, "keys", None) or getattr(operand, "elts", None) or [operand]
            found += [one.lineno for one in parts if isinstance(one, ast.Constant) and one.value in NAMES]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_names_of_engines_and_uplinks_are_not_compared(path):
    assert names_compared(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        'cluster.uplink == "local"',
        'if engine != "nftables": pass',
        'uplink in ("routed", "bridged")',
        '{"local": 1}[uplink]',
        '{"clusterip": 1}.get(engine)',
    ],
)
def test_a_comparison_is_found(text):
    assert names_compared(text)


@pytest.mark.parametrize("text", ['engine: str = "nftables"', 'spec = {"choices": ["local"]}', '"local" if x else y'])
def test_a_value_is_none(text):
    assert names_compared(text) == []


def test_every_engine_and_uplink_is_in_its_registry_and_hashes_as_a_known_hash():
    for folder, registry in (("engines", ENGINES), ("uplinks", UPLINKS)):
        assert {path.stem for path in (CLUSTER / folder).glob("*.py")} >= set(registry)
    assert {engine.hash_as for engine in ENGINES.values()} <= set(hashing.HASHES)
