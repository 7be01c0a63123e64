# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The frame of the modules that configure the kernel: observe, plan, apply, and verify."""

from __future__ import annotations

import importlib.util
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ._kernel.kernel import Kernel
from ._kernel.steps import KernelError, Planned, prepared_diff
from ._params import ParameterError

# Options of an interface, for the modules that create interfaces
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


def run(
    module: AnsibleModule,
    plan: t.Callable[[Kernel], Planned],
    *,
    before: t.Callable[[], list[str]] = list,
    after: t.Callable[[], list[str]] = list,
) -> t.NoReturn:
    """Plan; unless in check mode, apply the steps and verify that the kernel has the desired state. Exits the module.

    before, after: further changes, which respect check mode themselves. They return their commands.
    """
    require_root(module)
    require_pyroute2(module)
    with kernel_of(module) as kernel:
        try:
            first = before()
            planned = plan(kernel)
            if planned.missing:
                if not module.check_mode:
                    module.fail_json(msg="; ".join(planned.missing))
                for sentence in planned.missing:
                    module.warn(f"{sentence} (check mode: assumed to be created by an earlier task)")
            if planned.steps and not module.check_mode:
                kernel.apply(planned.steps)
                verified = plan(kernel)
                if verified.steps:
                    remaining = "; ".join(s.text for s in verified.steps)
                    module.fail_json(
                        msg=f"the kernel did not keep all changes; another program may interfere: {remaining}"
                    )
                planned.result = verified.result
            last = after()
        except ParameterError as exc:
            module.fail_json(msg=str(exc))
        except (KernelError, OSError) as exc:  # OSError: a command failed, or what was observed has gone
            module.fail_json(msg=str(exc))
    commands = [*first, *(s.text for s in planned.steps), *last]
    module.exit_json(
        changed=bool(commands),
        commands=commands,
        diff=prepared_diff(commands),
        **planned.result,
        **planned.done,
    )


def kernel_of(module: AnsibleModule) -> Kernel:
    """The kernel to observe and change; in check mode, one that does without programs that are missing."""
    if module.check_mode:
        from ._kernel.check_mode import CheckModeKernel

        return CheckModeKernel(module.warn)
    return Kernel()


def require_root(module: AnsibleModule) -> None:
    """Fail if the module does not run as root."""
    if os.geteuid() != 0:
        module.fail_json(msg="this module changes the host's network and must run as root: use 'become: true'")


def require_pyroute2(module: AnsibleModule) -> None:
    """Fail without pyroute2, before anything is changed; in check mode, where an earlier task may install it, warn.

    pyroute2 is looked for and not imported: the import takes 0.1 to 0.3 s, and is of use for changes alone.
    """
    if importlib.util.find_spec("pyroute2") is None:
        message = f"{missing_required_lib('pyroute2')}. On Debian, install the package python3-pyroute2."
        if not module.check_mode:
            module.fail_json(msg=message)
        module.warn(f"{message} (check mode: assumed to be installed by an earlier task)")
