# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs modules one after the other, each in a child process that inherits the imported modules.

A request is a line of JSON on standard input: {"module": …, "args": …, "output": a file}. The answer is a line with
the PID of the child, which leads its own process group, and at its end a line with its wait status.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
import traceback

import run_module

MODULES = "ansible_collections.clustered.openvpn.plugins.modules"


def main() -> None:
    """Serve requests until standard input ends."""
    for name in ("netns", "veth", "bridge", "clusterip", "clusterip_info"):
        importlib.import_module(f"{MODULES}.{name}")
    importlib.import_module("pyroute2")  # modules import it when they change something
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(child(request))
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


def child(request: dict) -> int:
    """Run one module; the exit status."""
    os.setpgid(0, 0)
    file = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(file, 1)
    sys.stdin = io.StringIO(json.dumps(request["args"]))
    sys.argv = ["run_module", request["module"]]
    status = 0
    try:
        run_module.main()
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 0
    except BaseException:
        traceback.print_exc()
        status = 3
    sys.stdout.flush()
    return status


if __name__ == "__main__":
    main()
