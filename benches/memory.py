#!/usr/bin/env python3
"""Measures what daemons and the client take of the machine: memory, processors and disk writes when idle with 1,000
images, memory while three large directories are published at once, and a directory of very many files.

Method and figures: doc/performance.md. Needs ssh-keygen and the release build (`cargo build --release --bins`). Everything
is made below a temporary folder, which is removed at the end; only the processes that this program started are ended.
"""

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rsync_compare import HOSTS, MIB, ROOT, SEED, cpu_seconds, free_port, machine, make_big, prepare_node, started, timed, wait_for_port


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="/dev/shm", help="where to make the temporary folder")
    parser.add_argument("--images", type=int, default=1000, help="images on disk of the idle daemon")
    parser.add_argument("--idle", type=int, default=60, help="seconds that it is watched")
    parser.add_argument("--mib", type=int, default=1024, help="size of each of the three directories")
    parser.add_argument("--files", type=int, default=0, help="publish one directory of so many files of 10 KiB (1000000)")
    parser.add_argument("--bin", default=ROOT / "target/release", type=Path, help="where the binaries are")
    options = parser.parse_args()
    print(f"On {machine()}.\n\n| what | figure |\n|---|---|")
    with tempfile.TemporaryDirectory(prefix="ciruela-bench-", dir=options.work) as folder:
        work = Path(folder)
        for measure in [many_files] if options.files else [idle, three_at_once]:
            place = work / measure.__name__
            place.mkdir()
            measure(place, options)


def row(what, figure):
    print(f"| {what} | {figure} |", flush=True)


@contextlib.contextmanager
def cluster(work, options, count):
    """Daemons; gives their nodes, and a function which starts one."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ci", "-f", work / "key"], check=True)
    nodes = [(f"n{number}", host, free_port(host)) for number, host in enumerate(HOSTS[:count], 1)]
    commands = [prepare_node(work, options, nodes, number + 1) for number in range(count)]
    with contextlib.ExitStack() as daemons:

        def start(number):
            name, host, port = nodes[number]
            process = daemons.enter_context(started(commands[number], work / f"{name}.log"))
            wait_for_port(host, port)
            return process

        yield nodes, start


def sync(work, nodes, options, wishes):
    client = [options.bin / "ciruela", "sync", "-i", work / "key", "-m"]
    client += [f"--append={source}:/data/{name}" for source, name in wishes]
    return client + [f"{host}:{port}" for _, host, port in nodes]


def idle(work, options):
    with cluster(work, options, 1) as (nodes, start):
        daemon = start(0)
        source = work / "source"
        source.mkdir()
        content = random.Random(SEED)
        for first in range(0, options.images, 50):
            names = [f"i{number}" for number in range(first, min(first + 50, options.images))]
            for name in names:
                (source / name).mkdir()
                for file in range(10):
                    (source / name / f"{file}.conf").write_bytes(content.randbytes(2048))
            timed([sync(work, nodes, options, [(source / name, name) for name in names])], work)
        daemon.terminate()
        daemon.wait()
        daemon = start(0)
        time.sleep(10)
        before, written = cpu_seconds([daemon]), disk_writes(daemon)
        time.sleep(options.idle)
        used, written = cpu_seconds([daemon]) - before, disk_writes(daemon) - written
        row(f"idle daemon, {options.images} images on disk: memory", f"{memory(daemon, 'VmRSS'):.0f} MiB")
        row("the same: share of a core", f"{100 * used / options.idle:.2f} %")
        row(f"the same: disk writes in {options.idle} s", f"{written} bytes")


def three_at_once(work, options):
    sources = []
    for number in range(3):
        source = make_big(work / f"source{number}", options.mib)
        with open(source / "file", "r+b") as file:
            # Each block is another one than in the other two.
            for offset in range(0, options.mib * MIB, 32 << 10):
                file.seek(offset)
                file.write(bytes([number]))
        sources.append(source)
    with cluster(work, options, 3) as (nodes, start):
        daemons = [start(number) for number in range(3)]
        clients = watched([sync(work, nodes, options, [(source, source.name)]) for source in sources], work)
        most = max(memory(daemon, "VmHWM") for daemon in daemons)
        row(f"daemon while three of {options.mib} MiB arrive: most memory", f"{most:.0f} MiB")
        row("each client", f"{max(clients):.0f} MiB")


def many_files(work, options):
    source = work / "source"
    content = random.Random(SEED).randbytes(10 << 10)
    for number in range(options.files):
        path = source / f"{number // 1000:04}" / f"{number}.dat"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(number.to_bytes(8, "little") + content[8:])
    blocks = options.files
    row("least that is asked for: client", f"{64 + 100 * blocks / MIB:.0f} MiB")
    with cluster(work, options, 1) as (nodes, start):
        daemon = start(0)
        began = time.monotonic()
        [client] = watched([sync(work, nodes, options, [(source, "many")])], work)
        taken = time.monotonic() - began
        row(f"{options.files} files of 10 KiB to one daemon", f"{taken:.1f} s")
        row("the same: most memory of the daemon", f"{memory(daemon, 'VmHWM'):.0f} MiB")
        row("the same: most memory of the client", f"{client:.0f} MiB")
        subprocess.run(["diff", "-r", source, work / "n1/data/many"], check=True)
        again = timed([sync(work, nodes, options, [(source, "again")])], work)
        row("the same at another path: linked", f"{again:.1f} s")


def watched(commands, work):
    """Runs them at once; gives the most memory that each had. (What wait4 says counts this program's, too, at the fork.)"""
    environment = {**os.environ, "HOME": str(work), "XDG_CACHE_HOME": str(work / "cache"), "SSH_AUTH_SOCK": ""}
    most = [0.0] * len(commands)
    with contextlib.ExitStack() as running:
        clients = [
            running.enter_context(started(command, work / f"client{number}.log", environment))
            for number, command in enumerate(commands)
        ]
        while any(client.poll() is None for client in clients):
            for number, client in enumerate(clients):
                with contextlib.suppress(OSError, SystemExit):
                    most[number] = max(most[number], memory(client, "VmHWM"))
            time.sleep(0.005)
        for number, client in enumerate(clients):
            if client.returncode != 0:
                sys.exit(f"status {client.returncode}\n{(work / f'client{number}.log').read_text()}")
    return most


def memory(process, field):
    """MiB of it."""
    for line in Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    sys.exit(f"no {field} of process {process.pid}")


def disk_writes(process):
    """Bytes that it had written to storage; 0 where nothing goes there, as on a tmpfs."""
    lines = Path(f"/proc/{process.pid}/io").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


if __name__ == "__main__":
    os.umask(0o022)
    main()
