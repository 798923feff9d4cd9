#!/bin/bash
#SBATCH -J minicrit-setup
#SBATCH -p gh-dev
#SBATCH -N 1
#SBATCH --ntasks-per-node=1
#SBATCH -t 01:00:00
#SBATCH -o slurm/logs/%x.%j.out
#SBATCH --open-mode=append
# Once: .venv with the pinned wheels, and whether torch can use the GPU. Needs a way to PyPI.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source slurm/env.sh
make setup doctor "$@"
