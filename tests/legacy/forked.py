# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A world whose modules run in forked children: in a user-mode Linux, starting Python takes seconds."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
import typing as t

from integration import run_module
from integration.world import ModuleFailed, World
from pyroute2 import netns

from ansible_collections.clustered.openvpn.plugins.modules import bridge, clusterip, clusterip_info, veth
from ansible_collections.clustered.openvpn.plugins.modules import netns as _netns

IMPORTED = (bridge, clusterip, clusterip_info, veth, _netns)  # before the fork


class ForkedWorld(World):
    """A world that forks instead of starting Python."""

    def module(self, module: str, /, *, check: bool = False, on: str = "", **args: t.Any) -> dict[str, t.Any]:
        args.update(_ansible_check_mode=check, _ansible_diff=True)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.dup2(writing, 1)
                netns.setns(on or self.host, flags=0)
                sys.argv, sys.stdin, sys.stdout = ["", module], io.StringIO(json.dumps(args)), os.fdopen(1, "w")
                run_module.main()
            except SystemExit:
                sys.stdout.flush()
            except BaseException:
                sys.stdout.write(traceback.format_exc())
                sys.stdout.flush()
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as file:
            said = file.read()
        os.waitpid(pid, 0)
        try:
            result = json.loads(said)
        except ValueError as exc:
            raise AssertionError(f"{module}: no JSON: {said}") from exc
        if result.get("failed"):
            raise ModuleFailed(result["msg"])
        return result
