#!/bin/bash
#SBATCH -J minicrit-sft
#SBATCH -p gh
#SBATCH -N 4
#SBATCH --ntasks-per-node=1
#SBATCH -t 24:00:00
#SBATCH --signal=USR1@600
#SBATCH -o slurm/logs/%x.%j.out
#SBATCH --open-mode=append
# Fine-tuning, one process a node. sbatch -N 16 slurm/sft.sh: as many nodes as you say.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source slurm/env.sh
trap finish EXIT
make sft "$@"
