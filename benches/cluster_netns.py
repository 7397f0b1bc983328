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
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
PORT = 24783
READY_SECONDS = 30
SAMPLE_SECONDS = 0.02
CHUNK = 256 << 10
# A machine that does nothing but send to and receive from others over plain TCP: it takes `quota` bytes from whoever connects, says that
# it has them, and gives `budget` bytes to all that it is told of together.
PLAIN = """
import socket, sys, threading
own, port, quota, budget, others = {own}, {port}, {quota}, {budget}, {others}
lock, chunk = threading.Lock(), bytes({chunk})
def receive(stream):
    global quota
    buffer = bytearray(len(chunk))
    while size := stream.recv_into(buffer):
        with lock:
            before, quota = quota, quota - size
        if before > 0 >= quota:
            print("done", flush=True)
        if quota <= 0:
            break
    stream.close()
def listen(server):
    while True:
        threading.Thread(target=receive, args=(server.accept()[0],), daemon=True).start()
def send(other):
    global budget
    try:
        with socket.create_connection(("10.231.0.%d" % other, port)) as stream:
            while True:
                with lock:
                    before, budget = budget, budget - len(chunk)
                if before <= 0:
                    break
                stream.sendall(chunk)
            stream.shutdown(socket.SHUT_WR)
            stream.recv(1)
    except OSError:
        pass  # It has all that it wanted.
server = socket.create_server(("10.231.0.%d" % own, port))
threading.Thread(target=listen, args=(server,), daemon=True).start()
print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=send, args=(other,)) for other in others]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("sent", flush=True)
sys.stdin.readline()
"""
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

    def sent(self, number):
        """Bytes that a machine's link has carried from it, with the headers of all packets."""
        command = ["tc", "-s", "-j", "-n", f"{self.tag}n{number}", "qdisc", "show", "dev", f"{self.tag}i{number}"]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]["bytes"]

    def passed(self, number):
        """The same, quicker to read: packets that are sent together count as one header."""
        return int(Path(f"/sys/class/net/{self.tag}o{number}/statistics/rx_bytes").read_text())


class Watch(threading.Thread):
    """When a machine sends how much."""

    def __init__(self, network, number):
        super().__init__(daemon=True)
        self.network, self.number = network, number
        self.over = threading.Event()
        self.before = network.sent(number)
        self.samples = [(time.monotonic(), network.passed(number))]

    def run(self):
        while not self.over.wait(SAMPLE_SECONDS):
            self.samples.append((time.monotonic(), self.network.passed(self.number)))

    def end(self):
        """Bytes sent, and when the first and the last hundredth of them were."""
        self.over.set()
        self.join()
        (begin, before), (_, after) = self.samples[0], self.samples[-1]
        total = after - before
        when = [next(at for at, sent in self.samples if sent - before >= total * part) - begin for part in (0.01, 0.99)]
        return self.network.sent(self.number) - self.before, *when


def plain_tcp(options, own, names, everybody):
    """Seconds in which the client's machine sends as many bytes as the image has over plain TCP, to three others together; `everybody`: in
    which each machine gets as many, from the client and from all others, whatever comes first. Nothing does better over these links."""
    size = options.mib * MIB
    nodes = list(range(1, len(names) + 1))
    plans = [(250, own, 0, size, nodes[:3])]
    for number, name in zip(nodes, names):
        others = [other for other in nodes if other != number and everybody]
        plans.append((number, name, size if everybody else 1 << 60, 1 << 60, others))
    machines = []
    for number, name, quota, budget, others in plans:
        code = PLAIN.format(own=number, port=PORT + 1 + everybody, quota=quota, budget=budget, others=others, chunk=CHUNK)
        command = in_namespace(name, [sys.executable, "-c", code])
        machines.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        machines[-1].stdout.readline()
    begin = time.monotonic()
    for machine in machines:
        machine.stdin.write("go\n")
        machine.stdin.flush()
    for machine in machines if everybody else machines[:1]:
        machine.stdout.readline()
    seconds = time.monotonic() - begin
    for machine in machines:
        machine.kill()
        machine.communicate()
    return seconds


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
        plain = [plain_tcp(options, own, names, everybody) for everybody in (False, True)]
        watch = Watch(network, 250)
        watch.start()
        begin = time.monotonic()
        done = subprocess.run(in_namespace(own, command), capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begin
        sent, first, last = watch.end()
        if done.returncode != 0:
            sys.exit(f"the client ended with {done.returncode}:\n{done.stderr}")
    for number in range(1, options.nodes + 1):
        call("diff", "-r", work / "source", folder / f"n{number}" / "data/image")
    shutil.rmtree(folder)
    return seconds, plain, sent / (options.mib * MIB), first, last


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
            seconds, (alone, mesh), sent, first, last = measure(options, work, run)
            say(
                f"{seconds:.1f} s, {seconds / ideal:.3f} of the least; plain TCP: {alone:.1f} s ({alone / ideal:.3f}) from the client to "
                f"three, {mesh:.1f} s ({mesh / ideal:.3f}) from all to all; "
                f"the client sent {sent:.3f} of the image, headers included, 98 % of it between {first:.1f} and {last:.1f} s"
            )


if __name__ == "__main__":
    main()
