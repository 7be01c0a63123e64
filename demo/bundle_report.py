# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure the demo's bundle: throughput of TCP over 1, 2 and 4 tunnels, and a failover while one tunnel is frozen."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import typing as t
from pathlib import Path

from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import reconcile, spread
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle.bundle import bundle_from
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.kernel import Kernel
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel.namespaces import within

ENDS = {"left": "demo-l", "right": "demo-r"}  # host in the inventory -> name of the bundle
RECEIVER = "10.70.2.9"  # the host of the right site
WARM_UP, SECONDS = 1.5, 4.0
FLOWS = (1, 4)
FROZEN = 2  # number of the tunnel
LATE = 0.5  # seconds after which a datagram counts as lost


def parameters(end: str) -> dict[str, t.Any]:
    """Parameters of the module tunnel_bundle at an end, from the desired state that the role saved."""
    state = json.loads(Path(f"/etc/clustered-openvpn/{ENDS[end]}.json").read_text())
    return {**state["bundles"][0], "supervisor": "process"}


def configure(tunnels: int, mode: str) -> None:
    """Use only the first tunnels at both ends, by setting the weight of the others to 0."""
    running = []
    for end in ENDS:
        bundle = {**parameters(end), "spread": mode}
        bundle["tunnels"] = [{**one, "weight": int(one["number"] <= tunnels)} for one in bundle["tunnels"]]
        command = ["ansible", "-i", "inventories/demo_bundle", end, "-m", "clustered.openvpn.tunnel_bundle", "-a"]
        running.append(subprocess.Popen([*command, json.dumps(bundle)], stdout=subprocess.PIPE, text=True))
    for process in running:
        output = process.communicate(timeout=120)[0]
        if process.returncode:
            raise SystemExit(output)
    wait_live(list(range(1, tunnels + 1)))


def live_tunnels(end: str) -> list[int]:
    """The tunnels in the spread of an end."""
    bundle = bundle_from(parameters(end))
    with Kernel() as kernel:
        return spread.live_tunnels(bundle, reconcile.bundle_table(kernel, bundle, bundle.netns))


def wait_live(tunnels: list[int], seconds: float = 20) -> float:
    """Wait until exactly these are in the spread at both ends; the seconds that it took."""
    start = time.monotonic()
    while not all(live_tunnels(end) == tunnels for end in ENDS):
        if time.monotonic() - start > seconds:
            found = ", ".join(f"{end}: {live_tunnels(end)}" for end in ENDS)
            raise SystemExit(f"tunnels {tunnels} were not in use within {seconds:g} s at both ends; in use: {found}")
        time.sleep(0.02)
    return time.monotonic() - start


def sent_packets() -> list[int]:
    """Packets that the left end has sent into each tunnel."""
    with within("demo-left"):
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    counters = {line.partition(":")[0].strip(): line.partition(":")[2].split() for line in lines}
    return [int(counters[one["device"]][9]) for one in parameters("left")["tunnels"]]


def throughput(flows: int) -> float:
    """Total Mbit/s of TCP connections from a host of the left site to one of the right site."""
    received, over = [0] * flows, threading.Event()
    with within("demo-site-right"):
        listener = socket.create_server((RECEIVER, 0))
    with within("demo-site-left"):
        senders = [socket.create_connection(listener.getsockname(), 20) for _flow in range(flows)]
    receivers = [listener.accept()[0] for _flow in range(flows)]

    def send(sock: socket.socket) -> None:
        block = bytes(1 << 16)
        with contextlib.suppress(OSError):
            while not over.is_set():
                sock.sendall(block)

    def receive(i: int, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := sock.recv(1 << 18):
                received[i] += len(data)

    threads = [threading.Thread(target=send, args=(sock,)) for sock in senders]
    threads += [threading.Thread(target=receive, args=item) for item in enumerate(receivers)]
    for thread in threads:
        thread.start()
    time.sleep(WARM_UP)
    start, before = time.monotonic(), sum(received)
    time.sleep(SECONDS)
    rate = (sum(received) - before) * 8e-6 / (time.monotonic() - start)
    over.set()
    for sock in (*senders, *receivers):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
    for thread in threads:
        thread.join()
    listener.close()
    return rate


def report_throughput() -> None:
    """Print throughput by spread, number of tunnels and number of connections."""
    with within("demo-site-left"):
        congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    print(f"\nTCP throughput between hosts of the two sites, in Mbit/s (congestion control {congestion}).")
    print("Shares: packets in each tunnel, including probes, with four connections.\n")
    print("spread      tunnels  1 connection  4 connections  shares")
    print("----------  -------  ------------  -------------  -----------------------")
    for mode in ("per_packet", "per_flow"):
        for tunnels in (1, 2, 4):
            configure(tunnels, mode)
            rates = []
            before = sent_packets()
            for flows in FLOWS:
                before = sent_packets()
                rates.append(throughput(flows))
            packets = [now - then for now, then in zip(sent_packets(), before)]
            shares = " ".join(f"{100 * one / sum(packets):3.0f} %" for one in packets)
            print(f"{mode:10}  {tunnels:7}  {rates[0]:12.1f}  {rates[1]:13.1f}  {shares}", flush=True)
    print("\nper_flow assigns connections by a hash, so a few connections may leave a tunnel unused.")


def report_failover() -> None:
    """Freeze a process while datagrams flow, and print how many are lost and when the tunnel is used again."""
    configure(4, "per_packet")
    with within("demo-site-right"):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind((RECEIVER, 0))
    sink.settimeout(0.5)
    arrived: dict[int, float] = {}
    times: list[float] = []
    over = threading.Event()

    def receive() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                arrived[int.from_bytes(sink.recv(64), "big")] = time.monotonic()

    def send() -> None:
        with within("demo-site-left"):
            source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while not over.is_set():
            source.sendto(len(times).to_bytes(8, "big"), sink.getsockname())
            times.append(time.monotonic())
            time.sleep(0.002)
        source.close()

    threads = [threading.Thread(target=one) for one in (receive, send)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    device = f"{ENDS['right']}-{FROZEN}"
    pid = json.loads(Path(f"/run/clustered-openvpn/{device}.json").read_text())["pid"]
    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    try:
        detected = wait_live([1, 3, 4])
        before = sent_packets()[FROZEN - 1]
        time.sleep(2)
        probes = sent_packets()[FROZEN - 1] - before
    finally:
        os.kill(pid, signal.SIGCONT)
    returned = wait_live([1, 2, 3, 4])
    time.sleep(1)
    over.set()
    for thread in threads:
        thread.join()
    sink.close()
    # The process sends the packets that it had queued when it continues: they count as lost.
    delays = [arrived.get(number, float("inf")) - moment for number, moment in enumerate(times)]
    lost = [moment - stopped for moment, delay in zip(times, delays) if delay > LATE]
    print(f"\nFailover: the right end's process of tunnel {FROZEN} is frozen (SIGSTOP), with 500 datagrams per second.")
    print(f"  {detected:5.2f} s  until both ends use the other three tunnels")
    last = max(lost, default=0.0)
    print(f"  {len(lost):5}    of {len(times)} datagrams lost or late; the last was sent {last:.2f} s after the stop")
    print(f"  {probes:5}    packets sent into the frozen tunnel in the next 2 s: probes only")
    print(f"  {returned:5.2f} s  until both ends use the tunnel again, after it continues (SIGCONT)")


report_throughput()
report_failover()
