#!/bin/bash
#SBATCH -J minicrit-dpo
#SBATCH -p gh
#SBATCH -N 1
#SBATCH --ntasks-per-node=1
#SBATCH -t 24:00:00
#SBATCH --signal=USR1@600
#SBATCH -o slurm/logs/%x.%j.out
#SBATCH --open-mode=append
# Preference pairs from the critic's own critiques, and learning from them.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source slurm/env.sh
trap finish EXIT
make dpo "$@"
