# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shell around every module: observe -> plan -> apply -> observe."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.clustered.openvpn.plugins.module_utils import _kernel, _nft
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import Kernel
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError
from ansible_collections.clustered.openvpn.plugins.module_utils._plan import Step, prepared_diff

# The options of an interface, the same for every module that makes one.
INTERFACE_OPTIONS: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "netns": {"type": "str"},
    "mac": {"type": "str"},
    "mtu": {"type": "int"},
    "up": {"type": "bool", "default": True},
    "addresses": {"type": "list", "elements": "str", "default": []},
    "routes": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "dst": {"type": "str", "required": True},
            "via": {"type": "str"},
            "src": {"type": "str"},
        },
    },
}


@dataclass
class Planned:
    """What a planner hands back: the steps, what another task must make first, and facts for the result."""

    steps: list[Step]
    missing: list[str] = field(default_factory=list)
    result: dict[str, t.Any] = field(default_factory=dict)


def run(module: AnsibleModule, plan: t.Callable[[Kernel], Planned]) -> t.NoReturn:
    """Plan, stop there in check mode, else apply, and make sure that nothing is left to do."""
    with opened(module) as kernel:
        try:
            planned = plan(kernel)
            if planned.missing:
                if not module.check_mode:
                    module.fail_json(msg="; ".join(planned.missing))
                for sentence in planned.missing:
                    module.warn(f"{sentence} (check mode: taken as made by an earlier task)")
            if planned.steps and not module.check_mode:
                kernel.apply(planned.steps)
                after = plan(kernel)
                if after.steps:
                    left = "; ".join(s.text for s in after.steps)
                    module.fail_json(msg=f"applied, but the kernel does not hold it; still to do: {left}")
                planned.result = after.result
        except ParameterError as exc:
            module.fail_json(msg=str(exc))
        except (_kernel.KernelError, _nft.NftError) as exc:
            module.fail_json(msg=str(exc))
    module.exit_json(
        changed=bool(planned.steps),
        commands=[s.text for s in planned.steps],
        diff=prepared_diff(planned.steps),
        **planned.result,
    )


def opened(module: AnsibleModule) -> Kernel:
    """The kernel, or a message about what is missing to reach it."""
    if _kernel.PYROUTE2_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("pyroute2"), exception=_kernel.PYROUTE2_IMPORT_ERROR)
    if os.geteuid() != 0:
        module.fail_json(msg="this module changes the host's network and must run as root: use 'become: true'")
    return Kernel()
