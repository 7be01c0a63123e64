# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long the network of a cluster takes to set up: our modules beside the tools they stand for.

Everything happens in namespaces of this run. Times are medians of some rounds, taken in turn; absolute figures belong
to the machine, so the ratio is what counts. The way of a playbook of C(command) tasks is measured once, with a few
members, and scaled up.

MEMBERS=64 ROUNDS=3 LOOPED=8 (members of the playbook; 0 leaves it out)
"""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path
from types import ModuleType

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.clustered.openvpn.plugins.filter.cluster import cluster_layout
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import parameters as _parameters
from ansible_collections.clustered.openvpn.plugins.module_utils._cluster import reconcile
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import steps as _steps
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.kernel import Kernel
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.steps import Step
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import bridges as _bridges
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import namespaces as _namespaces
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import reconcile as _reconcile
from ansible_collections.clustered.openvpn.plugins.module_utils._topology import veths as _veths
from ansible_collections.clustered.openvpn.plugins.modules import bridge, clusterip, netns, veth

MEMBERS = int(os.environ.get("MEMBERS") or 64)
ROUNDS = int(os.environ.get("ROUNDS") or 3)
LOOPED = min(int(os.environ.get("LOOPED") or 8), MEMBERS)
PREFIX = f"b{os.getpid() % 10000}"


def layout(size: int) -> dict[str, t.Any]:
    """A cluster whose namespaces are this run's."""
    members = [{"name": f"{PREFIX}-{k}", "number": k} for k in range(1, size + 1)]
    return cluster_layout(
        {
            "name": "bench",
            "address": "192.0.2.10",
            "interface": "nic0",
            "members": members,
            "instances": [{"name": "udp", "protocol": "udp", "port": 1194, "pool": "10.8.0.0/16"}],
            "slice_prefix": 24,
            "internal_network": "10.255.0.0/22",
            "total_nodes": 256,
            "hash_init": 1,
        }
    )


def parameters(module: ModuleType, **given: t.Any) -> dict[str, t.Any]:
    """A task's arguments as Ansible prepares them before a module sees them: defaults and types."""
    result = ArgumentSpecValidator(module.ARGUMENT_SPEC).validate(given)
    assert not result.error_messages, result.error_messages
    return result.validated_parameters


def modules(parts: dict[str, t.Any]) -> list[Step]:
    """The work of the four modules, each with a kernel of its own, without Ansible around it; the steps taken."""
    taken: list[Step] = []
    namespaces = _namespaces.namespaces_from(parameters(netns, namespaces=parts["namespaces"])["namespaces"])
    veths = _veths.veths_from(parameters(veth, veths=parts["veths"])["veths"])
    bridges = _bridges.bridges_from(parameters(bridge, bridges=parts["bridges"])["bridges"])
    cluster = _parameters.cluster_from(parameters(clusterip, name="bench", **parts["cluster"], nodes=parts["nodes"]))

    def run(plan: t.Callable[..., _steps.Planned], wanted: t.Any) -> None:
        with Kernel() as kernel:
            steps = plan(kernel, wanted, True).steps
            kernel.apply(steps)
            taken.extend(steps)
            assert not steps or not plan(kernel, wanted, True).steps

    run(_reconcile.namespaces, namespaces)
    run(_reconcile.veths, veths)
    run(_reconcile.bridges, bridges)
    run(reconcile.clusterip, cluster)
    return taken


def tools(steps: list[Step]) -> None:
    """The same steps by `ip -batch`, `bridge -batch`, `sysctl` and one `nft -f` a namespace: few processes."""
    kinds: dict[tuple[str, str], list[Step]] = {}
    for step in steps:
        tool = step.op if step.op in ("nft", "sysctl") else step.text.split(" ")[0]
        kinds.setdefault((tool, step.netns), []).append(step)
    # Batches by tool and namespace, in an order that works for a build from nothing.
    rank = {"ip": 0, "bridge": 1, "sysctl": 2, "nft": 3}
    for tool, where in sorted(kinds, key=lambda k: (rank[k[0]], k[1] != "", k[1])):
        batch(tool, where, kinds[tool, where])


def batch(tool: str, where: str, steps: list[Step]) -> None:
    """One process for many steps."""
    inside = ["ip", "netns", "exec", where] if where else []
    if tool == "nft":
        for step in steps:
            subprocess.run([*inside, "nft", "-f", "-"], input="\n".join(step.args["lines"]), text=True, check=True)
    elif tool == "sysctl":
        pairs = [f"{s.args['key']}={s.args['value']}" for s in steps]
        subprocess.run([*inside, "sysctl", "-qw", *pairs], check=True)
    else:
        name = ["-n", where] if where else []
        text = "\n".join(s.text.replace(f"{tool} -n {where} ", f"{tool} ", 1).split(" ", 1)[1] for s in steps)
        subprocess.run([tool, *name, "-batch", "-"], input=text + "\n", text=True, check=True)


def playbook(steps: list[Step]) -> None:
    """The same steps as a looped C(command) task, the usual way without a module."""
    commands = []
    for step in steps:
        inside = ["ip", "netns", "exec", step.netns] if step.netns else []
        if step.op == "nft":
            commands.append({"argv": [*inside, "nft", "-f", "-"], "stdin": "\n".join(step.args["lines"])})
        else:
            commands.append({"argv": shlex.split(step.text), "stdin": ""})
    task = {"ansible.builtin.command": {"argv": "{{ item.argv }}", "stdin": "{{ item.stdin }}"}, "loop": commands}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "play.json")  # JSON is YAML
        file.write_text(json.dumps([play]), encoding="utf-8")
        ansible = str(Path(sys.executable).with_name("ansible-playbook"))
        command = [ansible, "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def remove() -> None:
    """Everything of this run but its host."""
    for name in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.split("\n"):
        if name.startswith(PREFIX + "-"):
            subprocess.run(["ip", "netns", "del", name.split(" ")[0]], check=True)
    for link in ("br-bench",):
        subprocess.run(["ip", "link", "del", link], check=False, stderr=subprocess.DEVNULL)
    for family in ("netdev", "ip"):
        table = [family, "clustered_openvpn_bench"]
        subprocess.run(["nft", "delete", "table", *table], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "neigh", "del", "proxy", "192.0.2.10", "dev", "nic0"], check=False, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while "ve-" in subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout:
        assert time.monotonic() < deadline, "the links of deleted namespaces stay"
        time.sleep(0.05)


def timed(function: t.Callable[[], t.Any]) -> tuple[float, t.Any]:
    """Seconds, and the output."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def looped() -> tuple[int, float]:
    """The number of commands for a few members, and the time that a playbook of them takes."""
    parts = layout(LOOPED)
    steps = modules(parts)
    remove()
    print(f"{len(steps)} looped commands for {LOOPED} members: this takes a minute", file=sys.stderr)
    seconds, _none = timed(lambda: playbook(steps))
    assert not modules(parts), "the commands made the same"
    remove()
    return len(steps), seconds


def main() -> None:
    """Measure in a namespace that stands for the host."""
    parts = layout(MEMBERS)
    rows: dict[str, list[float]] = {"modules, from nothing": [], "modules, no change": [], "batches, from nothing": []}
    try:
        for number in range(ROUNDS):
            seconds, steps = timed(lambda: modules(parts))
            rows["modules, from nothing"].append(seconds)
            seconds, again = timed(lambda: modules(parts))
            assert not again, again
            rows["modules, no change"].append(seconds)
            remove()
            seconds, _none = timed(lambda made=steps: tools(made))
            rows["batches, from nothing"].append(seconds)
            assert not modules(parts), "the batches made the same"
            remove()
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
        commands, once = looped() if LOOPED else (0, 0.0)
    finally:
        remove()
    base = statistics.median(rows["batches, from nothing"])
    print(f"{MEMBERS} members, {len(steps)} steps, median of {ROUNDS} rounds")
    for name, seconds in rows.items():
        print(f"  {name:25}{statistics.median(seconds):7.2f} s {statistics.median(seconds) / base:7.2f} x batches")
    if LOOPED:
        # The start of the playbook, a second or so, is scaled with the rest: little beside it.
        scaled = once * len(steps) / commands
        print(f"  {'looped commands, scaled':25}{scaled:7.0f} s {scaled / base:7.0f} x batches")
        print(f"  ({once:.0f} s for the {commands} commands of {LOOPED} members)")


if __name__ == "__main__":
    if os.environ.get("BENCH_HOST") is None:
        host = f"{PREFIX}host"
        subprocess.run(["ip", "netns", "add", host], check=True)
        try:
            subprocess.run(["ip", "-n", host, "link", "add", "nic0", "type", "veth", "peer", "name", "far"], check=True)
            subprocess.run(["ip", "-n", host, "link", "set", "nic0", "up"], check=True)
            command = ["nsenter", f"--net=/run/netns/{host}", sys.executable, __file__]
            raise SystemExit(subprocess.run(command, env={**os.environ, "BENCH_HOST": host}, check=False).returncode)
        finally:
            subprocess.run(["ip", "netns", "del", host], check=True)
    main()
