# How a job ends; sourced by slurm/env.sh with the words of the batch file, which are make's. Archiving
# wants its variables, not its goals.
# shellcheck shell=bash
words=()
for word in "$@"; do
    case "$word" in *=*) words+=("$word") ;; esac
done

# A link of a chain (slurm/chain.sh) whose work is done already.
done_marker="slurm/logs/${MINICRIT_CHAIN:-$SLURM_JOB_ID}.DONE"
if [ -e "$done_marker" ]; then
    echo "done: $done_marker"
    exit 0
fi

# A job that is cancelled, or killed at its limit, is not done: without a status of its own, bash
# takes that of the last command.
trap 'exit 143' TERM INT HUP

# Results to $WORK, then the marker. Make says 2 for every failure, srun's status is what launch.sh
# kept of it: 85 is "stopped before the limit, go on in the next link".
finish() {
    local status=$? kept="slurm/logs/$SLURM_JOB_ID.status"
    if [ "$status" -ne 0 ]; then exit "$(cat "$kept" 2>/dev/null || echo "$status")"; fi
    make archive "${words[@]}" ARCHIVE="${WORK:?}/minicrit" || exit 1
    touch "$done_marker"
}
