# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links in documents, the index of the decisions, and the map of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted(p for p in ROOT.rglob("*.md") if not {".venv", ".cache", ".git"} & set(p.relative_to(ROOT).parts))
UTILS = ROOT / "plugins/module_utils"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


def test_the_index_of_the_decisions_has_every_page() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs/decisions").glob("0*.md")):
        number, title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").split(": ", 1)
        assert f"| [{number}]({page.name}) | {title} |\n" in index


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_map_names_every_package(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    packages = {path.name if path.is_dir() else path.stem for path in UTILS.iterdir() if path.name.startswith("_")}
    assert {name for name in packages - {"__pycache__", "__init__"} if name not in text} == set()
