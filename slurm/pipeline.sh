#!/bin/bash
#SBATCH -J minicrit-pipeline
#SBATCH -p gh
#SBATCH -N 1
#SBATCH --ntasks-per-node=1
#SBATCH -t 48:00:00
#SBATCH --signal=USR1@600
#SBATCH -o slurm/logs/%x.%j.out
#SBATCH --open-mode=append
# Everything: data, sft, benchmark, quantize, report.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source slurm/env.sh
trap finish EXIT
make pipeline "$@"
