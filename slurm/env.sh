# What every job needs; sourced by the batch files, never run. slurm/README.md explains it.
# shellcheck shell=bash
set -euo pipefail
words=("$@") # make's: RECIPE=, RUN=, ARGS=, ...

refuse() {
    echo "slurm/env.sh: $1" >&2
    exit 1
}
case "$(hostname)" in
    login*) refuse "expected a compute node, got $(hostname): no AI work on login nodes; sbatch the file" ;;
esac
[ -n "${SLURM_JOB_ID:-}" ] || refuse "expected a job, got none; sbatch the file"
case "$PWD" in
    "${SCRATCH:?}"/*) ;;
    *) refuse "expected a clone below \$SCRATCH, got $PWD; clone it there, submit from its root" ;;
esac

# A link of a chain (slurm/chain.sh) whose work is done already.
done_marker="slurm/logs/${MINICRIT_CHAIN:-$SLURM_JOB_ID}.DONE"
if [ -e "$done_marker" ]; then
    echo "done: $done_marker"
    exit 0
fi

# At the end: results to $WORK, then the marker. Make says 2 for every failure, srun's status is what
# launch.sh kept of it: 85 is "stopped before the limit, go on in the next link".
finish() {
    local status=$? kept="slurm/logs/$SLURM_JOB_ID.status"
    if [ "$status" -ne 0 ]; then exit "$(cat "$kept" 2>/dev/null || echo "$status")"; fi
    make archive "${words[@]}" ARCHIVE="${WORK:?}/minicrit" || exit 1
    touch "$done_marker"
}

set +u # Lmod reads what is not set
# shellcheck disable=SC2086
module load ${MODULES:-gcc/15.1.0 cuda python3/3.11.8}
set -u
export RECIPE="${RECIPE:-vista}" LAUNCH="bash slurm/launch.sh"
export HF_HOME="${HF_HOME:-$SCRATCH/huggingface}"
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1
export OMP_NUM_THREADS="${THREADS:-16}" PYTHONUNBUFFERED=1
MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export MASTER_ADDR
echo "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST"

# Keys last: nothing is printed after them.
keys="${MINICRIT_KEYS:-$SCRATCH/.minicrit-keys}"
if [ -e "$keys" ]; then
    [ "$(stat -c %a "$keys")" = 600 ] || refuse "$keys: expected mode 600, got another; chmod 600 it"
    set -a
    # shellcheck disable=SC1090
    source "$keys"
    set +a
fi
