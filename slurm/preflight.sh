#!/bin/bash
#SBATCH -J minicrit-preflight
#SBATCH -p gh-dev
#SBATCH -N 2
#SBATCH --ntasks-per-node=1
#SBATCH -t 00:15:00
#SBATCH -o slurm/logs/%x.%j.out
#SBATCH --open-mode=append
# Fifteen minutes before anything long: nodes, driver, NCCL, bandwidth, disks, caches.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source slurm/env.sh
make preflight "$@"
