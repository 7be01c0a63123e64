# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures of all scenarios: clients of the lab."""

from __future__ import annotations

import concurrent.futures
import os
import typing as t
from pathlib import Path

import pytest
from lab.client import Client
from testinfra.host import Host

PKI = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "pki"


@pytest.fixture
def clients(host: Host, tmp_path: Path) -> t.Iterator[list[Client]]:
    """The clients of the lab, disconnected after the test."""
    variables = host.ansible.get_variables()
    made = [Client(variables["lab_name"], c["name"], c["address"], tmp_path, PKI) for c in variables["lab_clients"]]
    yield made
    with concurrent.futures.ThreadPoolExecutor() as pool:  # each takes seconds: it notifies its server first
        list(pool.map(Client.disconnect, made))
