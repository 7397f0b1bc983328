#!/usr/bin/env python3
"""Compares `ciruela sync` to three daemons with three `rsync -a` side by side, on this machine, in memory.

Method and figures: doc/performance.md. Needs rsync, ssh-keygen, 6 GiB free below --work, and the release build
(`cargo build --release --bins`). Everything is made below a temporary folder, which is removed at the end; only the
processes that this program started are ended.
"""

import argparse
import contextlib
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIB = 1 << 20
SEED = 1
READY_SECONDS = 20
RUN_SECONDS = 600
HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

DIRECTORY_CONFIG = """\
directory: {directory}
num-levels: 1
append-only: true
upload-keys: [ci]
"""
RSYNCD_CONFIG = """\
use chroot = no
uid = {uid}
gid = {gid}
read only = no
reverse lookup = no
log file = {log}
"""


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    options = parse_arguments()
    # So that the context managers below clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    contenders = [name for name in CONTENDERS if options.only in (None, name)]
    check_tools(options, contenders)
    with tempfile.TemporaryDirectory(prefix="ciruela-bench-", dir=options.work) as folder:
        work = Path(folder)
        free = shutil.disk_usage(work).free
        if free < 5 * options.mib * MIB:
            sys.exit(f"{work}: {free // MIB} MiB free, {5 * options.mib} needed; choose another folder with --work")
        trees = {
            f"one file of {options.mib} MiB": make_big(work / "big", options.mib),
            f"{options.files} files of 1 to 16 KiB": make_small(work / "small", options.files),
        }
        rows = [measure(name, tree, contenders, options, work) for name, tree in trees.items()]
    print_table(rows, contenders, options)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="/dev/shm", help="where to make the temporary folder (a tmpfs)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, of which the median counts")
    parser.add_argument("--mib", type=int, default=1024, help="size of the large file")
    parser.add_argument("--files", type=int, default=20_000, help="number of small files")
    parser.add_argument("--only", choices=list(CONTENDERS), help="measure only one of the two")
    parser.add_argument("--bin", default=ROOT / "target/release", type=Path, help="where the binaries are")
    return parser.parse_args()


def check_tools(options, contenders):
    needed = {"rsync": ["rsync"], "ciruela": ["ssh-keygen", *(str(options.bin / b) for b in BINARIES)]}
    missing = [tool for name in contenders for tool in needed[name] if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)} (apt-get install rsync openssh-client; cargo build --release --bins)")


def make_big(folder, mib):
    folder.mkdir()
    content = random.Random(SEED)
    with open(folder / "file", "wb") as file:
        for _ in range(mib):
            file.write(content.randbytes(MIB))
    return folder


def make_small(folder, files):
    content = random.Random(SEED + 1)
    for number in range(files):
        path = folder / f"{number // 1000:03}" / f"{number // 100 % 10}" / f"{number}.dat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.randbytes(content.randint(1 << 10, 16 << 10)))
    return folder


def measure(name, tree, contenders, options, work):
    """The median seconds of each contender; they take turns, and who begins alternates."""
    seconds = {contender: [] for contender in contenders}
    for run in range(options.runs):
        for contender in contenders if run % 2 == 0 else contenders[::-1]:
            with tempfile.TemporaryDirectory(prefix="run-", dir=work) as folder:
                taken, copies = CONTENDERS[contender](tree, Path(folder), options)
                for copy in copies:
                    subprocess.run(["diff", "-r", "--no-dereference", tree, copy], check=True)
            seconds[contender].append(taken)
            say(f"{name}, run {run + 1}: {contender} {taken:.2f} s")
    return name, seconds


def rsync(tree, folder, options):
    """Three clients at once, one daemon with three modules, empty destinations."""
    copies = [folder / f"n{number}" for number in (1, 2, 3)]
    config = RSYNCD_CONFIG.format(uid=os.getuid(), gid=os.getgid(), log=folder / "rsyncd.log")
    for copy in copies:
        copy.mkdir()
        config += f"[{copy.name}]\npath = {copy}\n"
    (folder / "rsyncd.conf").write_text(config)
    port = free_port(HOSTS[0])
    daemon = ["rsync", "--daemon", "--no-detach", f"--config={folder}/rsyncd.conf", f"--address={HOSTS[0]}", f"--port={port}"]
    with started(daemon, folder / "rsyncd.out"):
        wait_for_port(HOSTS[0], port)
        commands = [["rsync", "-a", f"{tree}/", f"rsync://{HOSTS[0]}:{port}/{copy.name}/"] for copy in copies]
        return timed(commands, folder), copies


def ciruela(tree, folder, options):
    """One client, three daemons which have nothing yet."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ci", "-f", folder / "key"], check=True)
    nodes = [(f"n{number}", host, free_port(host)) for number, host in enumerate(HOSTS, 1)]
    with contextlib.ExitStack() as daemons:
        for number, (name, host, port) in enumerate(nodes, 1):
            command = prepare_node(folder, options, nodes, number)
            daemons.enter_context(started(command, folder / f"{name}.log"))
            wait_for_port(host, port)
        client = [options.bin / "ciruela", "sync", "--append", f"{tree}:/data/{tree.name}", "-i", folder / "key", "-m"]
        client += [f"{host}:{port}" for _, host, port in nodes]
        taken = timed([client], folder)
    return taken, [folder / name / "data" / tree.name for name, _, _ in nodes]


def prepare_node(folder, options, nodes, number):
    """Makes configuration and folders of one daemon; returns its command."""
    name, host, port = nodes[number - 1]
    node, configuration = folder / name, folder / name / "etc"
    for below in ("etc/configs", "etc/keys", "db", "data"):
        (node / below).mkdir(parents=True)
    (configuration / "configs/data.yaml").write_text(DIRECTORY_CONFIG.format(directory=node / "data"))
    shutil.copy(folder / "key.pub", configuration / "keys/ci.key")
    peers = [f"{peer}:{peer_port}\n" for _, peer, peer_port in nodes]
    (configuration / "peers.txt").write_text("".join(peers))
    command = [options.bin / "ciruela-server", "-c", configuration, "--db-dir", node / "db"]
    command += ["--host", host, "--port", str(port)]
    return command + ["--override-hostname", name, "--override-machine-id", f"{number:032x}"]


def timed(commands, folder):
    """Seconds from the start of the first to the end of the last. No client has anything cached."""
    environment = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "SSH_AUTH_SOCK": ""}
    with contextlib.ExitStack() as running:
        start = time.monotonic()
        clients = [
            running.enter_context(started(command, folder / f"client{number}.log", environment))
            for number, command in enumerate(commands)
        ]
        for number, client in enumerate(clients):
            status = client.wait(timeout=RUN_SECONDS)
            if status != 0:
                sys.exit(f"{commands[number][0]}: status {status}\n{(folder / f'client{number}.log').read_text()}")
        return time.monotonic() - start


@contextlib.contextmanager
def started(command, log, environment=None):
    """A process that is ended, if it still runs, when the block is left."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout=READY_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port(host):
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def wait_for_port(host, port):
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"{host}:{port} isn't open after {READY_SECONDS} s: {error}")
            time.sleep(0.02)


def print_table(rows, contenders, options):
    print(f"Medians of {options.runs}, in seconds, on {machine()}.\n")
    print("| tree |" + "".join(f" {contender} |" for contender in contenders) + " ratio |")
    print("|---|" + "---|" * len(contenders) + "---|")
    for name, seconds in rows:
        medians = [statistics.median(seconds[contender]) for contender in contenders]
        ratio = f"{medians[1] / medians[0]:.2f}" if len(medians) == 2 else "–"
        print(f"| {name} |" + "".join(f" {median:.2f} |" for median in medians) + f" {ratio} |")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    version = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=False).stdout.split()
    tool = f"rsync {version[2]}" if len(version) > 2 else "no rsync"
    return f"{os.cpu_count()} × {models[0] if models else platform.machine()}, Linux {platform.release()}, {tool}"


BINARIES = ["ciruela", "ciruela-server"]
CONTENDERS = {"rsync": rsync, "ciruela": ciruela}

if __name__ == "__main__":
    main()
