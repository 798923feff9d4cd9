#!/bin/bash
#SBATCH -J minicrit-data
#SBATCH -p gg
#SBATCH -N 1
#SBATCH --ntasks-per-node=1
#SBATCH -t 12:00:00
#SBATCH --signal=USR1@600
#SBATCH -o slurm/logs/%x.%j.out
#SBATCH --open-mode=append
# Composes the data. Hard examples by a model on the node's GPU: slurm/make.sh hard BACKEND=local ...
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source slurm/env.sh
trap finish EXIT
make data "$@"
