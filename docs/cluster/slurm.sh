#!/bin/bash
# A scheduler, its workers and `atomicity batch` in one SLURM job:
#
#     IMAGES=/data/session OUT=/data/session-results sbatch slurm.sh [further options of batch]
#
# Submit the same again if time was too short: what is done is not done again.
#SBATCH --job-name=atomicity
#SBATCH --ntasks=17
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=3G
#SBATCH --time=02:00:00
# Two minutes before the end, so that tables and report are written of what is done.
#SBATCH --signal=B:TERM@120

set -euo pipefail
: "${IMAGES:?a folder of images that all nodes see}" "${OUT:?a folder for the results}"
: "${SLURM_MEM_PER_CPU:?to be submitted with --mem-per-cpu}"
# Whatever has to be done so that `atomicity` is found on every node, such as:
# module load python; source /data/venv/bin/activate

# Dask has its workers give memory back at once, which costs a third of the speed with images.
export MALLOC_TRIM_THRESHOLD_=134217728 MALLOC_MMAP_THRESHOLD_=33554432
export NUMBA_NUM_THREADS=1
# Else each of them says some twenty lines as it comes.
export DASK_LOGGING__DISTRIBUTED=warning

mkdir -p "$OUT"
file="$OUT/.scheduler-$SLURM_JOB_ID.json"
# Where nodes have several networks: --interface ib0, also for the workers.
dask scheduler --port 0 --dashboard-address :0 --no-dashboard --scheduler-file "$file" &
scheduler=$!
# One task is left for the scheduler and the command themselves. Without its limit a worker takes
# the memory of the whole node for its own. What workers say as they go is not for the job's log.
srun --ntasks=$((SLURM_NTASKS - 1)) --kill-on-bad-exit=0 \
    --output="slurm-$SLURM_JOB_ID.workers.out" \
    dask worker --scheduler-file "$file" --nthreads 1 --memory-limit "${SLURM_MEM_PER_CPU}MiB" \
    --no-dashboard --death-timeout 60 --local-directory "${TMPDIR:-/tmp}" &
workers=$!

trap 'kill -TERM "$!" 2>/dev/null || true' TERM  # to the command, which is started last
atomicity batch "$IMAGES" --out "$OUT" --scheduler "$file" "$@" &
batch=$!
status=0
wait "$batch" || status=$?
# The trap ends the first wait; the command then still writes.
while kill -0 "$batch" 2>/dev/null; do
    status=0
    wait "$batch" || status=$?
done
trap '' TERM
# The scheduler ends its workers, which remove their files. What srun ends is killed.
kill "$scheduler" 2>/dev/null || true
wait "$scheduler" "$workers" || true
rm -f "$file"
exit "$status"
