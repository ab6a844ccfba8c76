"""The same with dask-jobqueue: workers are SLURM jobs of their own, and come as they get time.

    pip install dask-jobqueue
    python slurm_jobqueue.py /data/session --out /data/session-results --jobs 50

Run it where jobs can be submitted and long commands may run, or as a small job itself.
"""

import argparse

from dask_jobqueue import SLURMCluster

from napari_atomicity.many.batch import run_batch
from napari_atomicity.runs import Request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--partition")
    options = parser.parse_args()
    # Dask has its workers give memory back at once, which costs a third of the speed with images.
    keep = "export MALLOC_TRIM_THRESHOLD_=134217728 MALLOC_MMAP_THRESHOLD_=33554432"
    with SLURMCluster(
        queue=options.partition,
        cores=1,
        processes=1,
        memory="3GB",
        walltime="02:00:00",
        job_script_prologue=[keep],
    ) as cluster:
        # Not `adapt`: a batch gives out two tasks per worker, which looks like little to do.
        cluster.scale(jobs=options.jobs)
        run = run_batch(
            options.images,
            options.out,
            Request(model=options.model),
            scheduler=cluster.scheduler_address,
            notice=print,
            patience_s=24 * 3600,  # the queue may be long
        )
    done = len(run.outcomes) - len(run.failed)
    print(f"{done} images, {len(run.table)} clusters; {len(run.failed)} failed")


if __name__ == "__main__":
    main()
