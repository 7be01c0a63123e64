# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shell around every module: observe -> plan -> apply -> observe."""

from __future__ import annotations

import os
import shutil
import typing as t
from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ._kernel import command
from ._kernel import kernel as _kernel
from ._kernel.kernel import Kernel
from ._kernel.observed import Host, Saved, View
from ._kernel.routing import Seen
from ._kernel.steps import Planned, prepared_diff
from ._params import ParameterError

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


def run(
    module: AnsibleModule,
    plan: t.Callable[[Kernel], Planned],
    *,
    before: t.Callable[[], list[str]] = list,
    after: t.Callable[[], list[str]] = list,
) -> t.NoReturn:
    """Plan, stop there in check mode, else apply, and make sure that nothing is left to do.

    before, after: what is done besides, and heeds check mode itself; commands, for the result.
    """
    with opened(module) as kernel:
        try:
            first = before()
            planned = plan(kernel)
            if planned.missing:
                if not module.check_mode:
                    module.fail_json(msg="; ".join(planned.missing))
                for sentence in planned.missing:
                    module.warn(f"{sentence} (check mode: taken as made by an earlier task)")
            if planned.steps and not module.check_mode:
                kernel.apply(planned.steps)
                held = plan(kernel)
                if held.steps:
                    left = "; ".join(s.text for s in held.steps)
                    module.fail_json(msg=f"applied, but the kernel does not hold it; still to do: {left}")
                planned.result = held.result
            last = after()
        except ParameterError as exc:
            module.fail_json(msg=str(exc))
        except (_kernel.KernelError, _kernel.NetlinkError, OSError) as exc:  # type: ignore[attr-defined]
            module.fail_json(msg=str(exc))  # an OSError: of nft, or what was seen is gone already
    commands = [*first, *(s.text for s in planned.steps), *last]
    module.exit_json(
        changed=bool(commands),
        commands=commands,
        diff=prepared_diff(commands),
        **planned.result,
        **planned.done,
    )


def opened(module: AnsibleModule) -> Kernel:
    """The kernel, or a message about what is missing to reach it. In check mode an earlier task may bring it."""
    if os.geteuid() != 0:
        module.fail_json(msg="this module changes the host's network and must run as root: use 'become: true'")
    if _kernel.PYROUTE2_IMPORT_ERROR:
        library = missing_required_lib("pyroute2")
        if not module.check_mode:
            package = "On Debian that is the package python3-pyroute2."
            module.fail_json(msg=f"{library} {package}", exception=_kernel.PYROUTE2_IMPORT_ERROR)
        module.warn(f"{library} (check mode: taken as installed by an earlier task, on a host without any of this yet)")
        return EmptyKernel()
    if module.check_mode and not shutil.which("nft"):
        return WithoutNft(module.warn)
    return Kernel()


class EmptyKernel(Kernel):
    """A host that has nothing yet."""

    def observe(self, netnses: t.Iterable[str], *args: t.Any, **kwargs: t.Any) -> dict[str, View]:
        del args, kwargs
        return {netns: View(netns, exists=not netns) for netns in netnses}

    def tables(self, keys: t.Iterable[tuple[str, str, str]], *args: t.Any, **kwargs: t.Any) -> t.Any:
        del args, kwargs
        return dict.fromkeys(keys)

    def routing(self, netns: str, networks: t.Iterable[str] = ()) -> Seen:
        del netns, networks
        return Seen()

    def list_tables(self) -> list[tuple[str, str]]:
        return []

    def saved(self, netnses: t.Iterable[str], *args: t.Any, **kwargs: t.Any) -> dict[str, Saved]:
        del args, kwargs
        return {netns: Saved() for netns in netnses}


class WithoutNft(Kernel):
    """A host that has no tables, because it has no program to make them."""

    def __init__(self, warn: t.Callable[[str], None]) -> None:
        super().__init__()
        self._warn = warn

    def tables(self, keys: t.Iterable[tuple[str, str, str]], *args: t.Any, **kwargs: t.Any) -> t.Any:
        del args, kwargs
        self._warn(f"{command.missing('nft')} (check mode: taken as done by an earlier task)")
        return dict.fromkeys(keys)

    def list_tables(self) -> list[tuple[str, str]]:
        return []

    def abilities(self, families: t.Iterable[str]) -> Host:
        return replace(super().abilities(()), families=frozenset(families))
