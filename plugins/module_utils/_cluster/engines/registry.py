# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engines by name, in the order in which C(engine: auto) tries them. Pure."""

from __future__ import annotations

import typing as t

from ... import _params as p
from .. import hashing
from ..cluster import Cluster
from .clusterip import Clusterip
from .engine import Engine
from .nftables import Nftables
from .xt_cluster import XtCluster

AUTO = "auto"
ENGINES: t.Mapping[str, Engine] = {engine.name: engine for engine in (Nftables(), XtCluster(), Clusterip())}


def engine_of(cluster: Cluster) -> Engine:
    """The engine of a cluster. KeyError for C(auto): see C(choice.choose)."""
    return ENGINES[cluster.engine]


def own_hash(engine: str) -> str:
    """The value of C(hash_as) for an engine if the user gives none; C(engine) may be C(auto). Raises ParameterError."""
    if engine == AUTO:
        return hashing.DEFAULT
    if engine not in ENGINES:
        raise p.ParameterError("engine", engine, f"no such engine; use one of {', '.join([AUTO, *ENGINES])}")
    return ENGINES[engine].hash_as


def needs_announcement(cluster: Cluster) -> bool:
    """Whether our rules must announce C(clustermac): other hosts share the address, and the engine does not do it."""
    return cluster.shared and not engine_of(cluster).announces_mac(cluster)
