"""The PyTorchJob example: what it starts is a command that `percept fit` takes, with a GPU for each process."""

from __future__ import annotations

from pathlib import Path

import yaml

JOB = Path(__file__).resolve().parents[3] / "deploy" / "training" / "pytorchjob.yaml"


def test_the_job_starts_one_process_a_gpu_on_as_many_machines_as_it_says():
    job = yaml.safe_load(JOB.read_text("utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    replicas = job["spec"]["pytorchReplicaSpecs"]
    machines = sum(each["replicas"] for each in replicas.values())
    for each in replicas.values():
        [container] = each["template"]["spec"]["containers"]
        options = dict(word.removeprefix("--").split("=", 1) for word in container["command"] if "=" in word)
        assert container["name"] == "pytorch"
        assert container["command"][:5] == ["torchrun", "--no-python", "percept", "fit", "tagging"]
        assert options["trainer.num_nodes"] == str(machines)
        assert options["trainer.devices"] == job["spec"]["nprocPerNode"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == int(options["trainer.devices"])
        assert each["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
