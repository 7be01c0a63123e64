# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that read and write the files of the desired state in /etc/clustered-openvpn."""

from __future__ import annotations

import base64
import typing as t
from dataclasses import replace

from ansible.errors import AnsibleFilterError

from ..module_utils._bundle import host_links as _bundle_links
from ..module_utils._cluster import host_links as _cluster_links
from ..module_utils._state import files
from ..module_utils._state.cluster import ClusterState, Retired


def desired_states(results: t.Iterable[t.Mapping[str, t.Any]]) -> dict[str, dict[str, t.Any]]:
    """Results of the module slurp -> name of each cluster and bundle -> its desired state."""
    states = [_loaded(files.load, result) for result in results]
    return {state.name: files.document(state) for state in states}


def host_links(state: t.Mapping[str, t.Any], finished: bool = False) -> list[str]:
    """A layout -> names of the links that it makes in the host's own namespace. C(finished): without retired ones."""
    try:
        checked = files.state_of(state)
    except ValueError as exc:
        raise AnsibleFilterError(str(exc)) from None  # Ansible would print each cause again
    if isinstance(checked, ClusterState):
        return _cluster_links.host_links(replace(checked, retired=Retired()) if finished else checked)
    return _bundle_links.host_links(replace(checked, retired=()) if finished else checked)


def stored_ring(result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The result of the module slurp -> the ring in its file; {} if there was no file."""
    return files.document(_loaded(files.load_ring, result)) if "content" in result else {}


def state_text(state: t.Mapping[str, t.Any], finished: bool = False) -> str:
    """A layout or a ring -> the content of its file."""
    try:
        # Each run derives the settings of keepalived from the ring.
        stored = {name: value for name, value in state.items() if name != "vrrp"}
        checked: files.Stored = files.ring_of(stored) if "generation" in stored else files.state_of(stored)
        return files.text(files.finished(checked) if finished else checked)
    except ValueError as exc:
        raise AnsibleFilterError(str(exc)) from None  # Ansible would print each cause again


def _loaded(load: t.Callable[[str, bytes], t.Any], result: t.Mapping[str, t.Any]) -> t.Any:
    try:
        return load(result["source"], base64.b64decode(result["content"]))
    except files.StateError as exc:
        raise AnsibleFilterError(str(exc)) from None  # Ansible would print each cause again


class FilterModule:
    """The plugin that Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name -> function."""
        return {
            "desired_states": desired_states,
            "host_links": host_links,
            "state_text": state_text,
            "stored_ring": stored_ring,
        }
