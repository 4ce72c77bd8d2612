#!/usr/bin/env bash
# The same pipeline by `rote run`, by make, by Snakemake and, where it runs, by Slurm; content ids are compared.
# Needs make and snakemake (pip install snakemake); for Slurm also snakemake-executor-plugin-slurm and a running slurmctld.
#   tests/engines.sh [PIPELINE] [SHARDS]
set -euo pipefail
cd "$(dirname "$0")/.."
pipeline=${1:-pipelines/demo.toml}
shards=${2:-4}
rote=target/debug/rote
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Content id of every node of a store.
contents() {
    for link in "$1"/view/*/*; do
        echo "$(basename "$link") $(grep -o '"content_id": "[0-9a-f]*"' "$link/artifact.json" | head -n 1)"
    done
}

"$rote" run "$pipeline" --store "$work/run" --quiet >"$work/run.txt"
contents "$work/run" >"$work/expected"

compare() {
    if contents "$work/$1" | diff "$work/expected" - && "$rote" verify --store "$work/$1" >/dev/null; then
        echo "$1: $(wc -l <"$work/expected") content ids as of rote run"
    else
        echo "$1: differs" && exit 1
    fi
}

"$rote" export make "$pipeline" --shards "$shards" --store "$work/make" >"$work/Makefile"
make -s -j4 -f "$work/Makefile" >"$work/make.log" 2>&1 || { cat "$work/make.log"; exit 1; }
compare make
make -q -f "$work/Makefile" || { echo "make: not up to date after it ran" && exit 1; }

snakemake() {
    command snakemake -s "$work/Snakefile.$1" --quiet --nocolor --directory . "${@:2}" >"$work/$1.log" 2>&1 ||
        { cat "$work/$1.log"; exit 1; }
}
"$rote" export snakemake "$pipeline" --shards "$shards" --store "$work/snakemake" >"$work/Snakefile.snakemake"
snakemake snakemake --cores 4
compare snakemake

if command -v sbatch >/dev/null && sinfo -h >/dev/null 2>&1; then
    "$rote" export snakemake "$pipeline" --shards "$shards" --store "$work/slurm" >"$work/Snakefile.slurm"
    snakemake slurm --executor slurm --jobs 8 --slurm-no-account --slurm-status-command squeue \
        --slurm-init-seconds-before-status-checks 2 --seconds-between-status-checks 2 --latency-wait 10 \
        --default-resources slurm_partition=main mem_mb=500 runtime=10
    compare slurm
else
    echo "slurm: not here"
fi
