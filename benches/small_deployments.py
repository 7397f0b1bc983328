#!/usr/bin/env python3
"""Times small deployments to three daemons on this machine, one after another: 10 files each, all different.

Method and figures: doc/performance.md. Needs ssh-keygen and the release build (`cargo build --release --bins`). Everything
is made below a temporary folder, which is removed at the end; only the processes that this program started are ended.
"""

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rsync_compare import HOSTS, ROOT, SEED, free_port, machine, prepare_node, started, timed, wait_for_port


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="/dev/shm", help="where to make the temporary folder")
    parser.add_argument("--runs", type=int, default=100, help="deployments")
    parser.add_argument("--files", type=int, default=10, help="files of each")
    parser.add_argument("--bin", default=ROOT / "target/release", type=Path, help="where the binaries are")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ciruela-bench-", dir=options.work) as folder:
        work = Path(folder)
        sources = [make_source(work / f"source{number}", options.files, number) for number in range(options.runs)]
        bare, whole = measure(work, sources, options)
    print(f"{options.runs} deployments of {options.files} files to {len(HOSTS)} daemons, ms, on {machine()}.\n")
    print("| what | median | 10 % below | 10 % above | most |\n|---|---|---|---|---|")
    for name, seconds in [("`ciruela index`", bare), ("`ciruela sync`", whole)]:
        deciles = statistics.quantiles(seconds, n=10)
        figures = [statistics.median(seconds), deciles[0], deciles[-1], max(seconds)]
        print(f"| {name} |" + "".join(f" {1000 * figure:.1f} |" for figure in figures))


def make_source(folder, files, number):
    content = random.Random(SEED + number)
    folder.mkdir()
    for name in range(files):
        (folder / f"{name}.conf").write_bytes(content.randbytes(content.randint(1 << 10, 16 << 10)))
    return folder


def measure(work, sources, options):
    """Seconds of each index and of each deployment."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ci", "-f", work / "key"], check=True)
    nodes = [(f"n{number}", host, free_port(host)) for number, host in enumerate(HOSTS, 1)]
    bare, whole = [], []
    with contextlib.ExitStack() as daemons:
        for number, (name, host, port) in enumerate(nodes, 1):
            daemons.enter_context(started(prepare_node(work, options, nodes, number), work / f"{name}.log"))
            wait_for_port(host, port)
        for source in sources:
            bare.append(timed([[options.bin / "ciruela", "index", source, "--id"]], work))
            client = [options.bin / "ciruela", "sync", "--append", f"{source}:/data/{source.name}", "-i", work / "key", "-m"]
            whole.append(timed([client + [f"{host}:{port}" for _, host, port in nodes]], work))
        for source in sources:
            for name, _, _ in nodes:
                subprocess.run(["diff", "-r", source, work / name / "data" / source.name], check=True)
    return bare, whole


if __name__ == "__main__":
    sys.exit(main())
