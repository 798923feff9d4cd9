# What every job needs; sourced by the batch files, never run. slurm/README.md explains it.
# shellcheck shell=bash
set -euo pipefail

refuse() {
    echo "slurm: $1" >&2
    exit 1
}
case "$(hostname)" in
    login*) refuse "expected a compute node, got $(hostname): no AI work on login nodes; sbatch the file" ;;
esac
[ -n "${SLURM_JOB_ID:-}" ] || refuse "expected a job, got none; sbatch the file"
[ -n "${SCRATCH:-}" ] || refuse "expected \$SCRATCH, got none; set it to the folder that your clone is in"
case "$PWD" in
    "$SCRATCH"/*) ;;
    *) refuse "expected a clone below \$SCRATCH, got $PWD; clone it there, submit from its root" ;;
esac
source slurm/finish.sh "$@"

set +u # Lmod reads what is not set
MODULES="${MODULES-gcc/15.1.0 cuda python3/3.11.8}" # set to nothing where there are none
# shellcheck disable=SC2086
[ -z "$MODULES" ] || module load $MODULES
set -u
export RECIPE="${RECIPE:-vista}" LAUNCH="bash slurm/launch.sh"
export HF_HOME="${HF_HOME:-$SCRATCH/huggingface}" PIP_CACHE_DIR="${PIP_CACHE_DIR:-$SCRATCH/pip}"
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1
export OMP_NUM_THREADS="${THREADS:-16}" PYTHONUNBUFFERED=1
MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export MASTER_ADDR
echo "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST"

# Keys last: nothing is printed after them.
export MINICRIT_KEYS="${MINICRIT_KEYS:-$SCRATCH/.minicrit-keys}"
if [ -e "$MINICRIT_KEYS" ]; then
    [[ "$(stat -c %a "$MINICRIT_KEYS")" = ?00 ]] || refuse "$MINICRIT_KEYS: expected mode 600; chmod it"
    # shellcheck disable=SC1090
    set -a && source "$MINICRIT_KEYS" && set +a
fi
