"""The files that the documentation gives to schedulers of clusters."""

import json
import os
import queue
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
import types
from pathlib import Path
from typing import ClassVar

import pytest
import typer
from dask.utils import parse_bytes
from distributed.cli import dask_scheduler, dask_worker

from napari_atomicity.cli.commands import app
from napari_atomicity.pipeline.runs.dask_workers import address_of, has_bokeh, is_file
from pipeline.conftest import parts

FOLDER = Path(__file__).parents[2] / "docs" / "cluster"
BATCH = typer.main.get_command(app).commands["batch"]
DASK = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}


def parsed(words):
    """Parse a command of ours or of dask, which raises where the command line lacks an option."""
    command = next(i for i, word in enumerate(words) if word in ("atomicity", "dask"))
    program, name, *more = words[command:]
    known = BATCH if program == "atomicity" else DASK[name]
    assert program == "dask" or name == "batch"
    return known.make_context(name, more).params


def test_the_container_installs_extras_that_exist_and_its_commands_do_too():
    text = (FOLDER / "Dockerfile").read_text()
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r'pip install .*"\.\[(.+)\]"', text)
    assert "batch" in extras and set(extras.split(",")) <= set(project["optional-dependencies"])
    (python,) = re.findall(r"^FROM python:([\d.]+)-slim$", text, re.M)
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]
    (run,) = re.findall(r"docker run .*", text)
    assert parsed(shlex.split(run))["out"] == Path("/data/results")
    (command,) = re.findall(r"^CMD (.+)$", text, re.M)
    assert json.loads(command)[0] in project["scripts"]
    # As for the other ways to run on a cluster.
    for name, value in re.findall(r"(MALLOC_\w+)=(\d+)", text):
        assert f"{name}={value}" in (FOLDER / "slurm.sh").read_text()


def test_the_job_for_slurm_is_a_script_whose_commands_exist():
    script = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert text.index("#SBATCH") < text.index("set -euo")
    joined = text.replace("\\\n", " ").replace('"$@"', "--no-umap")
    found = re.findall(r"^((?:srun|dask|atomicity) .+) &$", joined, re.M)
    given = {"SLURM_MEM_PER_CPU": "3072", "TMPDIR:-/tmp": "/tmp", "file": "f.json"}
    for name, value in given.items():
        found = [line.replace(f"${{{name}}}", value).replace(f"${name}", value) for line in found]
    scheduler, workers, batch = [parsed(shlex.split(line)) for line in found]
    assert scheduler["scheduler_file"] == workers["scheduler_file"] == batch["scheduler"]
    assert (workers["memory_limit"], workers["nthreads"]) == ("3072MiB", 1)


JOB = """#!/bin/sh
# A worker that only waits, a scheduler that goes when told to, and a batch as it is asked for.
case "$(basename "$0") $1" in
"srun "*) exec sleep 0 ;;
"dask "*) trap 'exit 0' TERM; while :; do sleep 0.05; done ;;
"atomicity batch")
    trap 'echo told; exit 130' TERM
    if [ -n "$SIGNAL" ]; then kill -TERM "$PPID"; while :; do sleep 0.05; done; fi
    exit "$STATUS" ;;
esac
"""


@pytest.mark.parametrize(("signalled", "status"), [("", 0), ("", 1), ("yes", 130)])
def test_the_job_for_slurm_ends_as_its_command_does_and_tells_it_of_the_end(
    tmp_path, signalled, status
):
    for name in ("dask", "srun", "atomicity"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(JOB)
        path.chmod(0o755)
    given = {"IMAGES": "in", "OUT": str(tmp_path / "out"), "SLURM_JOB_ID": "7"}
    given |= {"SLURM_NTASKS": "3", "SLURM_MEM_PER_CPU": "3072", "SIGNAL": signalled}
    given |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "STATUS": str(status)}
    done = subprocess.run(
        ["bash", FOLDER / "slurm.sh"], env=given, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stderr
    assert ("told" in done.stdout) == bool(signalled)
    assert not list((tmp_path / "out").iterdir())


class Cluster:
    """In the place of SLURM's: what it is asked for, and the workers that all tests share."""

    made: ClassVar[list] = []

    def __init__(self, **options):
        self.options, self.jobs, self.scheduler_address = options, [], Cluster.address
        self.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.jobs.append("closed")

    def scale(self, jobs):
        self.jobs.append(jobs)


@pytest.fixture
def jobqueue(monkeypatch, address):
    """The script for dask-jobqueue, which need not be installed."""
    monkeypatch.setitem(sys.modules, "dask_jobqueue", types.SimpleNamespace(SLURMCluster=Cluster))
    monkeypatch.setattr(Cluster, "address", address, raising=False)
    Cluster.made.clear()
    return runpy.run_path(str(FOLDER / "slurm_jobqueue.py"))


def test_the_script_for_jobqueue_runs_the_command(
    jobqueue, images, tmp_path, tiny_model, monkeypatch
):
    out = tmp_path / "out"
    options = ["--jobs", "3", "--minutes", "90", str(images), "--out", str(out), "--no-umap"]
    options += ["--model", str(tiny_model), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["slurm_jobqueue.py", *options])
    with pytest.raises(SystemExit) as ended:
        jobqueue["main"]()
    assert not ended.value.code
    assert len(parts(out)) == 5
    (cluster,) = Cluster.made
    assert set(cluster.jobs[:-1]) == {3}  # once more every half a minute
    assert cluster.jobs[-1] == "closed"
    assert cluster.options["walltime"] == "01:30:00"
    worker = ["worker", *cluster.options["worker_extra_args"], cluster.scheduler_address]
    assert parsed(["dask", *worker])["lifetime"] == "81.0m"


def test_jobs_that_end_get_successors_until_the_batch_is_done(jobqueue):
    monkeyed = jobqueue["kept_up"].__wrapped__.__globals__
    monkeyed["LOOK_S"] = 0.01
    asked = queue.SimpleQueue()
    with jobqueue["kept_up"](types.SimpleNamespace(scale=lambda jobs: asked.put(jobs)), 5):
        assert [asked.get(timeout=30) for _ in range(3)] == [5, 5, 5]
    asked.put("left")
    while asked.get(timeout=30) != "left":
        pass
    assert asked.empty()


def test_what_is_applied_to_kubernetes_fits_together():
    yaml = pytest.importorskip("yaml")
    found = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
    assert [one["kind"] for one in found] == ["Deployment", "Service", "Deployment", "Job"]
    scheduler, service, workers, job = found
    pods = [one["spec"]["template"] for one in (scheduler, workers, job)]
    for one, pod in zip((scheduler, workers), pods, strict=False):
        assert one["spec"]["selector"]["matchLabels"] == pod["metadata"]["labels"]
    assert service["spec"]["selector"] == pods[0]["metadata"]["labels"]
    assert len({tuple(sorted(pod["metadata"]["labels"].items())) for pod in pods}) == 3

    containers = [pod["spec"]["containers"][0] for pod in pods]
    assert len({container["image"] for container in containers}) == 1
    given = [parsed(container["command"]) for container in containers]
    (port,) = service["spec"]["ports"]
    exposed = containers[0]["ports"][0]["containerPort"]
    assert str(port["targetPort"]) == given[0]["port"] == str(exposed)
    assert containers[0]["readinessProbe"]["tcpSocket"]["port"] == exposed
    address = f"tcp://{service['metadata']['name']}:{port['port']}"
    assert given[1]["scheduler"] == given[2]["scheduler"] == address
    assert parse_bytes(given[1]["memory_limit"]) == parse_bytes(
        containers[1]["resources"]["limits"]["memory"] + "B"
    )

    for pod, container in zip(pods[1:], containers[1:], strict=True):
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    (mount,) = containers[2]["volumeMounts"]
    for path in (*given[2]["paths"], given[2]["out"]):
        assert Path(path).is_relative_to(mount["mountPath"])
    assert containers[1]["volumeMounts"] == [mount]
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # as its policy asks


def test_a_scheduler_may_be_named_by_its_file(tmp_path):
    path = tmp_path / "scheduler.json"
    assert is_file(str(path)) and not is_file("tcp://node1:8786")
    with pytest.raises(OSError, match="No such file"):
        address_of(str(path))
    path.write_text('{"type": "Sch')
    with pytest.raises(ValueError, match="names no scheduler"):
        address_of(str(path))
    path.write_text('{"address": "tcp://10.0.0.1:4"}')
    assert address_of(str(path)) == "tcp://10.0.0.1:4"
    assert address_of("tls://node1:8786") == "tls://node1:8786"
    assert isinstance(has_bokeh(), bool)
