"""`atomicity batch` with dask-jobqueue: workers are SLURM jobs, and come as they get time.

    pip install dask-jobqueue
    python slurm_jobqueue.py --jobs 50 /data/session --out /data/session-results --no-umap

Whatever is not an option of this script is one of `atomicity batch`. Run it where jobs can be
submitted and long commands may run, or as a small job itself.
"""

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dask_jobqueue import SLURMCluster

from napari_atomicity.cli.commands import app

LOOK_S = 30
PATIENCE_S = 24 * 3600
"""The queue may be long."""


@contextmanager
def kept_up(cluster: SLURMCluster, jobs: int) -> Iterator[None]:
    """So many jobs at any time: those that reach their time limit get successors."""
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            # Not `adapt`: a batch gives out two tasks per worker, which looks like little to do.
            cluster.scale(jobs=jobs)
            done.wait(LOOK_S)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        done.set()
        looking.join()


def main() -> None:
    """Start the cluster, and run the command with it."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--jobs", type=int, default=20, help="how many workers")
    parser.add_argument("--minutes", type=int, default=120, help="time of each job")
    parser.add_argument("--partition", help="of SLURM")
    parser.add_argument("--interface", help="network between nodes, such as ib0")
    options, batch = parser.parse_known_args()
    # Dask has its workers give memory back at once, which costs a third of the speed with images.
    keep = "export MALLOC_TRIM_THRESHOLD_=134217728 MALLOC_MMAP_THRESHOLD_=33554432"
    with (
        SLURMCluster(
            queue=options.partition,
            interface=options.interface,
            cores=1,
            processes=1,
            memory="3GB",
            walltime=f"{options.minutes // 60:02}:{options.minutes % 60:02}:00",
            # They leave by themselves before they are killed, not all at once.
            worker_extra_args=[
                f"--lifetime={0.9 * options.minutes:.1f}m",
                f"--lifetime-stagger={0.05 * options.minutes:.1f}m",
            ],
            job_script_prologue=[keep, "export NUMBA_NUM_THREADS=1"],
            scheduler_options={"dashboard_address": ":0"},
        ) as cluster,
        kept_up(cluster, options.jobs),
    ):
        address = cluster.scheduler_address
        app(["batch", *batch, "--scheduler", address, "--patience-s", str(PATIENCE_S)])


if __name__ == "__main__":
    main()
