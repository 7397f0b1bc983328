#!/usr/bin/env bash
# All measurements of doc/performance.md, one after the other; some two hours. Needs rsync, ssh-keygen and python3 with
# matplotlib; 14 GiB free in /dev/shm; some 80 GiB in the folder that is given (/var/tmp unless told), which should lie on a
# disk; root for the part with network namespaces, which is left out otherwise. Nothing else should run at the same time.
set -euo pipefail
cd "$(dirname "$0")/.."
disk=${1:-/var/tmp}

part() { printf '\n## %s\n\n' "$*"; "$@"; }

cargo build --release --quiet --bins --examples
part target/release/examples/machine
part target/release/examples/machine --work "$disk"
part benches/rsync_compare.py --csv target/compare.csv
part benches/compare_figure.py target/compare.csv doc/compare.svg
part benches/rsync_compare.py --durable --work "$disk"
part benches/small_deployments.py
part benches/memory.py
part benches/memory.py --work "$disk" --files 1000000
part cargo bench --quiet
part env CIRUELA_SWARM_CSV="$PWD/target/swarm" cargo test --release --quiet --test sim swarm::figures
part benches/swarm_figure.py target/swarm doc/swarm.svg
if [ "$(id -u)" = 0 ]; then
    part benches/cluster_netns.py
else
    printf '\nbenches/cluster_netns.py is left out: only root can make network namespaces\n'
fi
