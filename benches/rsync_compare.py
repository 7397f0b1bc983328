#!/usr/bin/env python3
"""Compares `ciruela sync` to three daemons with three `rsync -a` side by side, on this machine, in memory.

Method and figures: doc/performance.md. Needs rsync, ssh-keygen, 9 GiB free below --work, and the release build
(`cargo build --release --bins --examples`). Everything is made below a temporary folder, which is removed at the end; only the
processes that this program started are ended.
"""

import argparse
import contextlib
import csv
import itertools
import os
import platform
import random
import resource
import select
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
# Arguments: the tree before, the new one, where that comes from, paths that changed.
LINK_AND_COPY = '''
cp -al "$1" "$2"; to="$2"; cd "$3"; shift 3
cp -a --parents --remove-destination "$@" "$to"
'''
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
        large, small = f"one file of {options.mib} MiB", f"{options.files} files of 1 to 16 KiB"
        trees = {large: lambda: make_big(work / "big", options.mib), small: lambda: make_small(work / "small", options.files)}
        changes = {large: change_big, small: change_small}
        chosen = [name for name in trees if options.tree in (None, {large: "large", small: "small"}[name])]
        rows = {}
        for name in chosen:
            tree = trees[name]()
            changed = tree.with_name(f"{tree.name}-changed")
            shutil.copytree(tree, changed)
            changes[name](changed)
            free, needed = shutil.disk_usage(work).free, 7 * size_of(tree) * (options.runs * 2 if options.durable else 1)
            if free < needed:
                sys.exit(f"{work}: {free // MIB} MiB free, {needed // MIB} needed; choose another folder with --work")
            trees_of = [tree] if options.first else [tree, changed]
            measured = measure(name, trees_of, contenders, options, work)
            rows |= zip([name, f"{name}, 1 % changed"], measured)
            if not options.durable:
                shutil.rmtree(tree)
                shutil.rmtree(changed)
        print_table(rows, contenders, options)
        if options.csv:
            write_csv(rows, options.csv)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="/dev/shm", help="where to make the temporary folder (a tmpfs)")
    parser.add_argument("--runs", type=int, default=6, help="runs of each, of which the median counts")
    parser.add_argument("--mib", type=int, default=1024, help="size of the large file")
    parser.add_argument("--files", type=int, default=20_000, help="number of small files")
    parser.add_argument("--tree", choices=["large", "small"], help="measure only that tree")
    parser.add_argument("--durable", action="store_true", help="on a disk: rsync followed by sync -f; nothing is removed between runs")
    parser.add_argument("--only", choices=list(CONTENDERS), help="measure only one of them")
    parser.add_argument("--first", action="store_true", help="only the first deployment of each tree")
    parser.add_argument("--csv", type=Path, help="where to put the seconds of all runs, for compare_figure.py")
    parser.add_argument("--bin", default=ROOT / "target/release", type=Path, help="where the binaries are")
    return parser.parse_args()


def check_tools(options, contenders):
    needed = {"rsync": ["rsync"], "ciruela": ["ssh-keygen", *(str(options.bin / b) for b in BINARIES)]}
    needed["parts"] = [str(options.bin / PARTS)]
    missing = [tool for name in contenders for tool in needed[name] if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)} (apt-get install rsync openssh-client; cargo build --release --bins --examples)")


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


def change_big(folder):
    """1 % of the blocks of 32 KiB get other content, in place."""
    content = random.Random(SEED + 2)
    block = 32 << 10
    blocks = (folder / "file").stat().st_size // block
    with open(folder / "file", "r+b") as file:
        for number in content.sample(range(blocks), max(1, blocks // 100)):
            file.seek(number * block)
            file.write(content.randbytes(block))
    later(folder / "file")


def change_small(folder):
    """1 % of the files get other content."""
    content = random.Random(SEED + 3)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in content.sample(files, max(1, len(files) // 100)):
        path.write_bytes(content.randbytes(content.randint(1 << 10, 16 << 10)))
        later(path)


def later(path):
    """rsync looks at seconds: a file of the same size that was changed in the same one is unchanged to it."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**10))


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(name, trees, contenders, options, work):
    """Seconds, and seconds of processors, of each contender for each of the trees, which are published one after the other.
    Who comes after whom matters: what one leaves of the machine's memory is the next one's. So each run has another order."""
    rows = [{contender: [] for contender in contenders} for _ in trees]
    orders = list(itertools.permutations(contenders))
    for run in range(options.runs):
        for contender in orders[run % len(orders)]:
            folder = Path(tempfile.mkdtemp(prefix="run-", dir=work))
            with contextlib.ExitStack() as daemons:
                publish, processes = CONTENDERS[contender](folder, options, daemons)
                all_copies = []
                for number, tree in enumerate(trees):
                    before = cpu_seconds(processes)
                    taken, copies = publish(tree, number)
                    used = cpu_seconds(processes) - before
                    rows[number][contender].append((taken, used))
                    all_copies += [(tree, copy) for copy in copies]
                    say(f"{name}, run {run + 1}: {contender}, {tree.name}: {taken:.2f} s, {used:.2f} s of processors")
            for tree, copy in all_copies:
                subprocess.run(["diff", "-r", "--no-dereference", tree, copy], check=True)
            # ext4 makes files several times slower just after many were removed.
            if not options.durable:
                shutil.rmtree(folder)
    return rows


def cpu_seconds(processes):
    """Of those processes and their ended children, and of all our own ended children."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        ticks += sum(int(field) for field in fields[11:15])
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ticks / os.sysconf("SC_CLK_TCK") + own.ru_utime + own.ru_stime


def rsync(folder, options, daemons):
    """Three clients at once, one daemon with three modules, empty destinations; what is the same as in the tree before is linked."""
    homes = [folder / f"n{number}" for number in (1, 2, 3)]
    config = RSYNCD_CONFIG.format(uid=os.getuid(), gid=os.getgid(), log=folder / "rsyncd.log")
    for home in homes:
        home.mkdir()
        config += f"[{home.name}]\npath = {home}\n"
    (folder / "rsyncd.conf").write_text(config)
    port = free_port(HOSTS[0])
    daemon = ["rsync", "--daemon", "--no-detach", f"--config={folder}/rsyncd.conf", f"--address={HOSTS[0]}", f"--port={port}"]
    process = daemons.enter_context(started(daemon, folder / "rsyncd.out"))
    wait_for_port(HOSTS[0], port)

    def publish(tree, number):
        commands = [["rsync", "-a", f"{tree}/", f"rsync://{HOSTS[0]}:{port}/{home.name}/{number}/"] for home in homes]
        if number > 0:
            commands = [[*command[:2], f"--link-dest=/{number - 1}", *command[2:]] for command in commands]
        taken = timed(commands, folder)
        if options.durable:
            taken += timed([["sync", "-f", folder]], folder)
        return taken, [home / str(number) for home in homes]

    return publish, [process]


def ciruela(folder, options, daemons):
    """One client, three daemons which have nothing yet."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ci", "-f", folder / "key"], check=True)
    nodes = [(f"n{number}", host, free_port(host)) for number, host in enumerate(HOSTS, 1)]
    processes = []
    for number, (name, host, port) in enumerate(nodes, 1):
        command = prepare_node(folder, options, nodes, number)
        processes.append(daemons.enter_context(started(command, folder / f"{name}.log")))
        wait_for_port(host, port)

    def publish(tree, number):
        client = [options.bin / "ciruela", "sync", "--append", f"{tree}:/data/{number}", "-i", folder / "key", "-m"]
        taken = timed([client + [f"{host}:{port}" for _, host, port in nodes]], folder)
        return taken, [folder / name / "data" / str(number) for name, _, _ in nodes]

    return publish, processes


def parts(folder, options, daemons):
    """What none of the others can leave out. Of a large file: one process reads, hashes, sends and writes, which is the least
    that the bytes cost. Of small ones: three plain copies, in which what is the same as in the tree before is linked."""
    del daemons

    def publish(tree, number):
        homes = [folder / f"n{node}" / str(number) for node in (1, 2, 3)]
        for home in homes:
            (home if (tree / "file").exists() else home.parent).mkdir(parents=True, exist_ok=True)
        if (tree / "file").exists():
            commands = [[options.bin / PARTS, "parts", tree / "file", *homes]]
        elif number == 0:
            commands = [["cp", "-a", tree, home] for home in homes]
        else:
            changed = [str(path) for path in changed_in(tree, homes[0].with_name(str(number - 1)))]
            commands = [["sh", "-c", LINK_AND_COPY, "sh", home.with_name(str(number - 1)), home, tree, *changed] for home in homes]
        taken = timed(commands, folder)
        if options.durable:
            taken += timed([["sync", "-f", folder]], folder)
        return taken, homes

    return publish, []


def changed_in(tree, before):
    """Paths of files, from the tree on, that have another time than in the copy of the tree before."""
    files = [path.relative_to(tree) for path in tree.rglob("*") if path.is_file()]
    return [path for path in files if (tree / path).stat().st_mtime_ns != (before / path).stat().st_mtime_ns]


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
            status = ended(client)
            if status != 0:
                sys.exit(f"{commands[number][0]}: status {status}\n{(folder / f'client{number}.log').read_text()}")
        return time.monotonic() - start


def ended(process):
    """Its status, as soon as there is one: `wait` with a timeout looks every 50 ms."""
    descriptor = os.pidfd_open(process.pid)
    try:
        if not select.select([descriptor], [], [], RUN_SECONDS)[0]:
            sys.exit(f"{process.args[0]} runs longer than {RUN_SECONDS} s")
    finally:
        os.close(descriptor)
    return process.wait()


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
    print(f"Medians of {options.runs}, in seconds (least to most; seconds of processors), on {machine()}.\n")
    print("| tree |" + "".join(f" {contender} |" for contender in contenders) + " ciruela / rsync | its processors / parts |")
    print("|---|" + "---|" * (len(contenders) + 2))
    for name, measured in rows.items():
        cells, wall, processors = [], {}, {}
        for contender in contenders:
            if contender not in measured:
                cells.append(" |")
                continue
            taken, used = zip(*measured[contender])
            wall[contender], processors[contender] = statistics.median(taken), statistics.median(used)
            cells.append(f" {wall[contender]:.2f} ({min(taken):.2f}–{max(taken):.2f}; {processors[contender]:.2f}) |")
        print(f"| {name} |" + "".join(cells) + f" {ratio(wall, 'rsync')} | {ratio(processors, 'parts')} |")


def write_csv(rows, path):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["tree", "contender", "seconds", "processors"])
        for name, measured in rows.items():
            for contender, runs in measured.items():
                writer.writerows([name, contender, f"{taken:.3f}", f"{used:.3f}"] for taken, used in runs)


def ratio(figures, yardstick):
    """Ours to the yardstick's."""
    if "ciruela" not in figures or yardstick not in figures:
        return "–"
    return f"{figures['ciruela'] / figures[yardstick]:.2f}"


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    version = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=False).stdout.split()
    tool = f"rsync {version[2]}" if len(version) > 2 else "no rsync"
    return f"{os.cpu_count()} × {models[0] if models else platform.machine()}, Linux {platform.release()}, {tool}"


PARTS = "examples/machine"
BINARIES = ["ciruela", "ciruela-server"]
CONTENDERS = {"rsync": rsync, "ciruela": ciruela, "parts": parts}

if __name__ == "__main__":
    main()
