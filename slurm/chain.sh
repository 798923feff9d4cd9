#!/bin/bash
# A chain of jobs that go on from one another, for work longer than the time limit; on a login node:
#   bash slurm/chain.sh 5 slurm/sft.sh RECIPE=vista
# AFTER=afterok:JOB in front: the first of them waits for that job.
# Each begins when the one before has ended, however it ended; those that are left when the work is
# done find the marker DONE and end at once (the queue bills a quarter of an hour for each).
set -euo pipefail
if [ $# -lt 2 ] || [[ ! $1 =~ ^[1-9][0-9]*$ ]] || [ ! -f "$2" ]; then
    echo "chain: expected a number of jobs and a batch file, got: ${*:-nothing};" \
        "bash slurm/chain.sh 5 slurm/sft.sh RECIPE=vista" >&2
    exit 2
fi
links=$1 file=$2
shift 2
MINICRIT_CHAIN="$(basename "$file" .sh)-$(date +%Y%m%d-%H%M%S)-$$"
export MINICRIT_CHAIN
wait="${AFTER:-}"
for _ in $(seq "$links"); do
    job="$(sbatch --parsable ${wait:+-d "$wait"} "$file" "$@")"
    job="${job%%;*}" wait="afterany:${job%%;*}"
    echo "$file: job $job of chain $MINICRIT_CHAIN"
done
