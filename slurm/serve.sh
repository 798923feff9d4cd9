#!/bin/bash
#SBATCH -J minicrit-serve
#SBATCH -p gh
#SBATCH -N 1
#SBATCH --ntasks-per-node=1
#SBATCH -t 24:00:00
#SBATCH -o slurm/logs/%x.%j.out
#SBATCH --open-mode=append
# Serves a critic with vLLM: EXPORT is a folder of make export FORMAT=vllm, VLLM the server's program
# (it has an environment of its own). It listens on the node alone; slurm/README.md has the tunnel.
set -euo pipefail
cd "$SLURM_SUBMIT_DIR"
source slurm/env.sh
: "${EXPORT:?expected a folder of make export FORMAT=vllm, got none; set it before sbatch}"
export VLLM="${VLLM:-$SCRATCH/vllm/bin/vllm}"
$LAUNCH -N 1 -n 1 bash "$EXPORT/serve.sh" "$@"
