#!/bin/bash
# How make starts a stage inside of a job (LAUNCH=): srun, whose steps get Slurm's signals, with its
# exit status kept for slurm/finish.sh. --wait: if one process fails, the others do not hang for ever.
rm -f "slurm/logs/$SLURM_JOB_ID.status"
srun --kill-on-bad-exit=0 --wait=300 "$@"
status=$?
[ "$status" -eq 0 ] || echo "$status" > "slurm/logs/$SLURM_JOB_ID.status"
exit "$status"
