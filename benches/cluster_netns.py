#!/usr/bin/env python3
"""How long a cluster of machines with slow links takes, on this machine: each node and the client in a network namespace of
its own, all at one bridge, each link bounded in both directions by a token bucket.

Method and figures: doc/performance.md. Needs root, `ip` and `tc` (Debian: iproute2), ssh-keygen, and the release build
(`cargo build --release --bins`). Namespaces, bridge and folder are made under names of this process and removed at the
end; only the processes that this program started are ended.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
PORT = 24783
READY_SECONDS = 30
CONFIG = "directory: {directory}\nnum-levels: 1\nappend-only: true\nupload-keys: [ci]\n"


def say(text):
    print(text, file=sys.stderr, flush=True)


def call(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Network:
    """A bridge, and machines at it."""

    def __init__(self, mbit):
        self.tag = f"cb{os.getpid() % 100000}"
        self.mbit = mbit
        self.names = []

    def __enter__(self):
        call("ip", "link", "add", self.bridge, "type", "bridge")
        call("ip", "link", "set", self.bridge, "up")
        return self

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", self.bridge], check=False)

    @property
    def bridge(self):
        return f"{self.tag}b"

    def machine(self, number):
        """A namespace with one link, at 10.231.0.`number`."""
        name, outer, inner = f"{self.tag}n{number}", f"{self.tag}o{number}", f"{self.tag}i{number}"
        self.names.append(name)
        call("ip", "netns", "add", name)
        call("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
        call("ip", "link", "set", inner, "netns", name)
        call("ip", "link", "set", outer, "master", self.bridge, "up")
        call("ip", "-n", name, "addr", "add", f"10.231.0.{number}/24", "dev", inner)
        call("ip", "-n", name, "link", "set", inner, "up")
        call("ip", "-n", name, "link", "set", "lo", "up")
        bucket = ["root", "tbf", "rate", f"{self.mbit}mbit", "burst", "64kb", "latency", "50ms"]
        call("tc", "qdisc", "add", "dev", outer, *bucket)
        call("tc", "-n", name, "qdisc", "add", "dev", inner, *bucket)
        return name


def in_namespace(name, command):
    return ["ip", "netns", "exec", name, *map(str, command)]


def prepare(folder, number, key, secret):
    """The folders of a node."""
    for name in ["conf/configs", "conf/keys", "db", "data"]:
        (folder / name).mkdir(parents=True)
    (folder / "conf/keys/ci.key").write_text(key)
    (folder / "conf/cluster.key").write_text(secret)
    (folder / "conf/cluster.key").chmod(0o600)
    (folder / "conf/peers.txt").write_text("10.231.0.1\n10.231.0.2\n")
    (folder / "conf/configs/data.yaml").write_text(CONFIG.format(directory=folder / "data"))


def start(folder, number, name, server):
    log = open(folder / "log", "wb")
    command = [
        server, "-c", folder / "conf", "--db-dir", folder / "db", "--host", f"10.231.0.{number}",
        "--override-machine-id", f"{number:032x}", "--override-hostname", f"node{number}",
    ]
    return subprocess.Popen(in_namespace(name, command), stderr=log, env={**os.environ, "RUST_LOG": "info"})


def end(process):
    process.send_signal(signal.SIGTERM)
    process.wait(20)


def members(name, number):
    """Live members that a node knows; asked from its own namespace."""
    page = f"http://10.231.0.{number}:{PORT}/status.json"
    code = f"import urllib.request as u; print(u.urlopen({page!r}, timeout=5).read().decode())"
    found = subprocess.run(in_namespace(name, [sys.executable, "-c", code]), capture_output=True, check=False)
    if found.returncode != 0:
        return 0
    return sum(member["state"] == "alive" for member in json.loads(found.stdout)["members"])


def measure(options, work, run):
    client, server = options.bin / "ciruela", options.bin / "ciruela-server"
    folder = work / f"run{run}"
    folder.mkdir()
    call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key")
    key, secret = (folder / "key.pub").read_text(), os.urandom(32).hex() + "\n"
    with Network(options.mbit) as network, contextlib.ExitStack() as stack:
        names = [network.machine(number) for number in range(1, options.nodes + 1)]
        own = network.machine(250)
        for number, name in enumerate(names, 1):
            prepare(folder / f"n{number}", number, key, secret)
            stack.callback(end, start(folder / f"n{number}", number, name, server))
        until = time.monotonic() + READY_SECONDS
        while any(members(name, number) != options.nodes for number, name in enumerate(names, 1)):
            if time.monotonic() > until:
                sys.exit(f"the nodes did not find each other within {READY_SECONDS} s")
        entries = [f"10.231.0.{number}" for number in range(1, min(options.nodes, 3) + 1)]
        command = [client, "sync", "-i", folder / "key", "--append", f"{work / 'source'}:/data/image", "-m", *entries]
        begin = time.monotonic()
        done = subprocess.run(in_namespace(own, command), capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begin
        if done.returncode != 0:
            sys.exit(f"the client ended with {done.returncode}:\n{done.stderr}")
    for number in range(1, options.nodes + 1):
        call("diff", "-r", work / "source", folder / f"n{number}" / "data/image")
    shutil.rmtree(folder)
    return seconds, done.stderr.strip().splitlines()[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--mbit", type=int, default=100, help="rate of each link, each way")
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release")
    parser.add_argument("--work", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    ideal = options.mib * MIB * 8 / (options.mbit * 1e6)
    with tempfile.TemporaryDirectory(prefix="ciruela-bench-", dir=options.work) as folder:
        work = Path(folder)
        (work / "source").mkdir()
        noise = random.Random(1)
        with open(work / "source/image", "wb") as file:
            for _ in range(options.mib):
                file.write(noise.randbytes(MIB))
        say(f"{options.nodes} nodes, {options.mib} MiB, {options.mbit} Mbit/s: no less than {ideal:.1f} s")
        for run in range(options.runs):
            seconds, last = measure(options, work, run)
            say(f"{seconds:.1f} s, {seconds / ideal:.3f} of the least; the client: {last}")


if __name__ == "__main__":
    main()
