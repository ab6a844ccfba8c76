"""The files that the documentation gives to schedulers of clusters."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from napari_atomicity.cli import app
from napari_atomicity.many.batch import run_batch
from napari_atomicity.many.cluster import address_of, has_bokeh, is_file

FOLDER = Path(__file__).parents[2] / "docs" / "cluster"
BATCH = typer.main.get_command(app).commands["batch"]


def test_the_job_for_slurm_is_a_script_whose_command_exists():
    script = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    line = re.search(r"^atomicity batch (.+) &$", text, re.M)[1].replace('"$@"', "--no-umap")
    BATCH.make_context("batch", shlex.split(line))
    assert text.index("#SBATCH") < text.index("set -euo")


def test_the_script_for_jobqueue_calls_what_there_is():
    tree = ast.parse((FOLDER / "slurm_jobqueue.py").read_text())
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    call = next(n for n in calls if ast.unparse(n.func) == "run_batch")
    given = {k.arg for k in call.keywords}
    assert {"scheduler", "patience_s"} <= given <= set(run_batch.__annotations__)


def test_what_is_applied_to_kubernetes_fits_together():
    yaml = pytest.importorskip("yaml")
    found = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))
    assert [one["kind"] for one in found] == ["Deployment", "Service", "Deployment", "Job"]
    scheduler, service, workers, job = found
    pod = scheduler["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == pod == scheduler["spec"]["selector"]["matchLabels"]
    address = f"tcp://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    containers = [one["spec"]["template"]["spec"]["containers"][0] for one in (workers, job)]
    assert all(address in container["command"] for container in containers)
    command = containers[1]["command"]
    assert command[:2] == ["atomicity", "batch"]
    BATCH.make_context("batch", command[2:])


def test_a_scheduler_may_be_named_by_its_file(tmp_path):
    path = tmp_path / "scheduler.json"
    assert is_file(str(path)) and not is_file("tcp://node1:8786")
    with pytest.raises(OSError, match="No such file"):
        address_of(str(path))
    path.write_text('{"type": "Sch')
    with pytest.raises(ValueError, match="Unterminated"):
        address_of(str(path))
    path.write_text('{"address": "tcp://10.0.0.1:4"}')
    assert address_of(str(path)) == "tcp://10.0.0.1:4"
    assert address_of("tls://node1:8786") == "tls://node1:8786"
    assert isinstance(has_bokeh(), bool)
