# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A filter that finds facts by which a host overrides variables of the roles."""

from __future__ import annotations

import typing as t

from ..module_utils import _params


def overriding_facts(facts: t.Iterable[t.Any]) -> list[str]:
    """Names of facts that are variables of the roles of this collection."""
    return _params.overriding(facts)


class FilterModule:
    """The plugin that Ansible loads."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Name -> function."""
        return {"overriding_facts": overriding_facts}
