#!/bin/bash
#SBATCH -J minicrit-make
#SBATCH -p gh
#SBATCH -N 1
#SBATCH --ntasks-per-node=1
#SBATCH -t 24:00:00
#SBATCH --signal=USR1@600
#SBATCH -o slurm/logs/%x.%j.out
#SBATCH --open-mode=append
# Whatever has no file of its own: sbatch slurm/make.sh calibrate ALPHA=0.05
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source slurm/env.sh
trap finish EXIT
[ $# -gt 0 ] || refuse "expected goals of make, got none; sbatch slurm/make.sh calibrate"
make "$@"
