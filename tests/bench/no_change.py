# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time of a module run that changes nothing, this checkout beside another one.

Modules are packed as Ansible packs them for a host (AnsiballZ) and run by the system's Python in a namespace of this
run. The runs of the two checkouts alternate; the medians are compared.

no_change.py OTHER_CHECKOUT (in whose .cache/collections the collection is found), MEMBERS=4 ROUNDS=21
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

HERE = Path(__file__).parents[2]
PYTHON = os.environ.get("MODULE_PYTHON") or "/usr/bin/python3"
MEMBERS = int(os.environ.get("MEMBERS") or 4)
ROUNDS = int(os.environ.get("ROUNDS") or 21)
PREFIX = f"n{os.getpid() % 10000}"


def tasks() -> dict[str, dict[str, t.Any]]:
    """Module -> its arguments, for a small cluster."""
    from ansible_collections.clustered.openvpn.plugins.filter.cluster import cluster_layout

    layout = cluster_layout(
        {
            "name": "bench",
            "address": "192.0.2.10",
            "interface": "nic0",
            "members": [{"name": f"{PREFIX}-{k}", "number": k} for k in range(1, MEMBERS + 1)],
            "instances": [{"name": "udp", "protocol": "udp", "port": 1194, "pool": "10.8.0.0/16"}],
            "slice_prefix": 24,
            "internal_network": "10.255.0.0/22",
            "total_nodes": 256,
            "hash_init": 1,
        }
    )
    return {
        "netns": {"namespaces": layout["namespaces"]},
        "veth": {"veths": layout["veths"]},
        "bridge": {"bridges": layout["bridges"]},
        "clusterip": {"name": "bench", **layout["cluster"], "nodes": layout["nodes"]},
    }


PACK = """
import json, sys
from pathlib import Path
from ansible.plugins.loader import init_plugin_loader, module_loader
from ansible.executor.module_common import modify_module
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
init_plugin_loader([])
python, directory, tasks = sys.argv[1], Path(sys.argv[2]), json.load(sys.stdin)
for name, args in tasks.items():
    name = "clustered.openvpn." + name
    path = module_loader.find_plugin_with_context(name).plugin_resolved_path
    variables = {"ansible_python_interpreter": python}
    built = modify_module(
        module_name=name, module_path=path, module_args=args, templar=Templar(DataLoader(), variables),
        task_vars=variables, module_compression="ZIP_DEFLATED",
    )
    (directory / name).write_bytes(built.b_module_data)
"""


def pack(checkout: Path, directory: Path, work: dict[str, dict[str, t.Any]]) -> None:
    """Write the modules of a checkout into a directory, with their arguments in them."""
    collections = str(checkout / ".cache/collections")
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": collections, "PYTHONPATH": collections}
    command = [sys.executable, "-c", PACK, PYTHON, str(directory)]
    subprocess.run(command, input=json.dumps(work), text=True, check=True, env=environment)


def run(host: str, module: Path) -> tuple[float, dict[str, t.Any]]:
    """Seconds and result of a run."""
    start = time.perf_counter()
    done = subprocess.run(
        ["nsenter", f"--net=/run/netns/{host}", PYTHON, str(module)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/root"},
    )
    seconds = time.perf_counter() - start
    result = json.loads(done.stdout)
    assert not result.get("failed"), result
    return seconds, result


def measure(host: str, other: Path) -> None:
    """Create the cluster, then measure runs that find it complete."""
    work = tasks()
    with tempfile.TemporaryDirectory() as directory:
        packed = {}
        for name, checkout in (("other", other), ("this", HERE)):
            packed[name] = Path(directory, name)
            packed[name].mkdir()
            pack(checkout, packed[name], work)
        for name in work:
            run(host, packed["this"] / f"clustered.openvpn.{name}")
        for name in work:
            seconds: dict[str, list[float]] = {"other": [], "this": []}
            for _round in range(ROUNDS):
                for checkout in seconds:
                    spent, result = run(host, packed[checkout] / f"clustered.openvpn.{name}")
                    assert not result["changed"], result
                    seconds[checkout].append(spent)
            before, now = (statistics.median(seconds[checkout]) * 1000 for checkout in ("other", "this"))
            print(f"{name:12}{before:8.0f} ms{now:8.0f} ms{now / before:8.2f}", flush=True)


def main() -> None:
    """In a namespace that stands for the host."""
    host = f"{PREFIX}host"
    ip = ["ip", "-n", host]
    subprocess.run(["ip", "netns", "add", host], check=True)
    try:
        subprocess.run([*ip, "link", "add", "nic0", "type", "veth", "peer", "name", "far"], check=True)
        subprocess.run([*ip, "addr", "add", "192.0.2.2/24", "dev", "nic0"], check=True)
        for link in ("nic0", "far"):
            subprocess.run([*ip, "link", "set", link, "up"], check=True)
        measure(host, Path(sys.argv[1]).resolve())
    finally:
        for name in [host, *(f"{PREFIX}-{k}" for k in range(1, MEMBERS + 1))]:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
