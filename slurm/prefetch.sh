#!/bin/bash
#SBATCH -J minicrit-prefetch
#SBATCH -p gg
#SBATCH -N 1
#SBATCH --ntasks-per-node=1
#SBATCH -t 02:00:00
#SBATCH -o slurm/logs/%x.%j.out
#SBATCH --open-mode=append
# Once a base: into the cache, as all other jobs are offline. If the nodes have no way out, load the
# modules of env.sh on a login node and run `HF_HOME=$SCRATCH/huggingface
# PIP_CACHE_DIR=$SCRATCH/pip make setup prefetch RECIPE=vista` there: it downloads and nothing else.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source slurm/env.sh
make prefetch "$@"
