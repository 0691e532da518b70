"""The Helm chart as Helm renders it, for CPU and GPU nodes, held to Kubernetes' schemas; and the KServe example.

No cluster runs it here. Objects of the Prometheus operator and of KServe have no schema in Kubernetes: they are read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

import scripts.improve
import scripts.monitor
from shared.packaging.dockerfile import PORT, SCRATCH, STATE, USER_ID
from shared.serving.http.middleware import OPEN_ROUTES
from shared.serving.settings import PREFIX, Settings
from tests.settings import settings_of

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "percept"
KUBERNETES = ["1.27.0", "1.37.0"]
"""The oldest that the chart says it is for, and the newest that there are schemas of."""
VALUES: dict[str, list[str | dict[str, Any]]] = {
    "default": [],
    "vision": ["values-vision.yaml"],
    "nlp": ["values-nlp.yaml"],
    "gpu": ["values-vision.yaml", "values-gpu.yaml"],
    "all": [
        "values-nlp.yaml",
        {
            "settings": {
                "public": ["metrics", "docs"],
                "max_body_bytes": 1 << 25,
                "trace_sample_rate": 0.25,
                "ui": False,
            },
            "apiKeys": {"existingSecret": "keys"},
            "adminKey": {"existingSecret": "admin"},
            "records": {"existingSecret": "records"},
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
            "autoscaling": {"requestsInProgress": 8},
            "networkPolicy": {"from": [{"podSelector": {"matchLabels": {"app": "shop"}}}]},
            "imagePullSecrets": [{"name": "registry"}],
            "image": {"digest": f"sha256:{'0' * 64}"},
            "podAnnotations": {"team": "vision"},
        },
    ],
    "fixed": [{"autoscaling": {"enabled": False}, "podDisruptionBudget": {"enabled": False}, "replicas": 3}],
}
EACH = pytest.mark.parametrize("name", VALUES)


def merged(*parts: str | dict[str, Any]) -> dict[str, Any]:
    """Return values as `helm -f A -f B` lays them over each other."""
    result: dict[str, Any] = {}
    for part in parts:
        values = yaml.safe_load((CHART / part).read_text("utf-8")) if isinstance(part, str) else part
        for key, value in values.items():
            result[key] = {**result.get(key, {}), **value} if isinstance(value, dict) else value
    return result


def render_all(*parts: str | dict[str, Any]) -> list[dict[str, Any]]:
    """Return all objects."""
    with helm.Chart.load(str(CHART)) as chart:
        values = merged(*parts)
        chart.validate_schema(values)
        files = chart.render(values, name="shop", namespace="prod")
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def render(*parts: str | dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the objects by their kind, of values without the loop: there is one of each."""
    objects = render_all(*parts)
    assert len({each["kind"] for each in objects}) == len(objects)
    return {each["kind"]: each for each in objects}


@pytest.fixture(scope="module")
def rendered() -> dict[str, dict[str, dict[str, Any]]]:
    return {name: render(*parts) for name, parts in VALUES.items()}


def pod(objects: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def test_helm_has_nothing_against_it():
    assert helm.lint(str(CHART))["errors"] == []


@EACH
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_object(name: str, version: str, rendered: dict[str, Any]):
    kinds = [kind for kind in rendered[name] if kind not in {"ServiceMonitor", "PrometheusRule"}]
    assert {"Deployment", "Service", "ConfigMap", "NetworkPolicy"} <= set(kinds)
    for kind in kinds:
        kubernetes_validate.validate(rendered[name][kind], version, strict=True)


def test_the_schema_would_see_a_mistake(rendered: dict[str, Any]):
    broken = json.loads(json.dumps(rendered["default"]["Deployment"]))
    broken["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES[-1], strict=True)


@EACH
def test_the_pod_is_confined_and_what_it_writes_is_a_volume(name: str, rendered: dict[str, Any]):
    spec = pod(rendered[name])
    assert spec["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": USER_ID, "runAsGroup": USER_ID, "fsGroup": USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    written = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert written == {SCRATCH, STATE}
    assert all("sizeLimit" in volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume)
    for kind in ("requests", "limits"):
        assert {"cpu", "memory"} <= set(container["resources"][kind])


@EACH
def test_the_probes_ask_the_routes_of_health(name: str, rendered: dict[str, Any]):
    (container,) = pod(rendered[name])["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": PORT}]
    asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")}
    assert {probe: get["path"] for probe, get in asked.items()} == {
        "startup": "/readyz", "readiness": "/readyz", "liveness": "/livez",
    }  # fmt: skip
    assert {get["port"] for get in asked.values()} == {"http"}
    assert {get["path"] for get in asked.values()} <= OPEN_ROUTES  # probes have no key
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


@EACH
def test_settings_are_real_and_a_pod_has_the_time_that_they_ask_for(name: str, rendered: dict[str, Any]):
    data = rendered[name]["ConfigMap"]["data"]
    assert {variable.removeprefix(PREFIX).lower() for variable in data} <= set(Settings.model_fields)
    settings = settings_of(data)
    spec = pod(rendered[name])
    assert settings.workers == 1
    assert settings.drain_s > 0
    assert spec["terminationGracePeriodSeconds"] > settings.drain_s + settings.shutdown_s
    (container,) = spec["containers"]
    assert container["args"] == ["--timeout-graceful-shutdown", str(settings.shutdown_s)]
    assert container["envFrom"] == [{"configMapRef": {"name": rendered[name]["ConfigMap"]["metadata"]["name"]}}]


def test_settings_of_every_type_arrive_as_they_were_meant(rendered: dict[str, Any]):
    settings = settings_of(rendered["all"]["ConfigMap"]["data"])
    assert (settings.public, settings.ui) == (["metrics", "docs"], False)
    assert (settings.max_body_bytes, settings.trace_sample_rate) == (1 << 25, 0.25)


def test_other_settings_are_other_pods():
    def checksum(*parts: dict[str, Any]) -> str:
        template = render(*parts)["Deployment"]["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    assert checksum() == checksum() != checksum({"settings": {"max_queue": 3}})


def test_a_gpu_pod_asks_for_a_gpu_and_for_cuda_and_a_cpu_pod_does_not(rendered: dict[str, Any]):
    for name, gpu in (("gpu", True), ("vision", False)):
        spec = pod(rendered[name])
        limits = spec["containers"][0]["resources"]["limits"]
        assert limits.get("nvidia.com/gpu") == (1 if gpu else None)
        assert settings_of(rendered[name]["ConfigMap"]["data"]).device == ("cuda" if gpu else "cpu")
        assert ("tolerations" in spec, "nodeSelector" in spec) == (gpu, gpu)
    assert pod(rendered["gpu"])["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_it_scales_by_cpu_and_by_requests_in_flight(rendered: dict[str, Any]):
    def measures(name: str) -> dict[str, Any]:
        return {each["type"]: each for each in rendered[name]["HorizontalPodAutoscaler"]["spec"]["metrics"]}

    assert set(measures("default")) == {"Resource"}
    assert set(measures("gpu")) == {"Pods"}  # a busy GPU does not show in the CPU
    assert set(measures("all")) == {"Resource", "Pods"}
    asked = measures("all")["Pods"]["pods"]
    assert asked["metric"]["name"] == "percept_http_requests_in_progress"
    source = (DEPLOY.parent / "shared" / "serving" / "observe" / "metrics.py").read_text()
    assert asked["metric"]["name"] in source
    assert asked["target"] == {"type": "AverageValue", "averageValue": "8"}
    assert "replicas" not in rendered["default"]["Deployment"]["spec"]
    assert rendered["fixed"]["Deployment"]["spec"]["replicas"] == 3
    assert {"HorizontalPodAutoscaler", "PodDisruptionBudget"}.isdisjoint(rendered["fixed"])


@EACH
def test_everything_that_selects_pods_selects_these(name: str, rendered: dict[str, Any]):
    objects = rendered[name]
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [objects["Deployment"]["spec"]["selector"]["matchLabels"], objects["Service"]["spec"]["selector"]]
    selectors.append(objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"])
    if "PodDisruptionBudget" in objects:
        selectors.append(objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"])
    assert all(selector.items() <= labels.items() and selector for selector in selectors)
    if "ServiceMonitor" in objects:
        monitor = objects["ServiceMonitor"]["spec"]
        assert monitor["selector"]["matchLabels"].items() <= objects["Service"]["metadata"]["labels"].items()
        assert monitor["endpoints"][0]["port"] in [port["name"] for port in objects["Service"]["spec"]["ports"]]


def test_only_the_service_port_is_open_and_nothing_may_be_called(rendered: dict[str, Any]):
    policy = rendered["default"]["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": "http", "protocol": "TCP"}]]
    narrow = rendered["all"]["NetworkPolicy"]["spec"]["ingress"][0]["from"]
    assert narrow == [{"podSelector": {"matchLabels": {"app": "shop"}}}]


def test_keys_come_from_secrets_alone(rendered: dict[str, Any]):
    spec = pod(rendered["all"])
    (container,) = spec["containers"]
    variables = {each["name"]: each for each in container["env"]}
    assert variables["PERCEPT_ADMIN_KEY"]["valueFrom"] == {"secretKeyRef": {"name": "admin", "key": "admin-key"}}
    assert variables["PERCEPT_RECORDS"]["valueFrom"] == {"secretKeyRef": {"name": "records", "key": "records-url"}}
    place = Path(variables["PERCEPT_API_KEYS_FILE"]["value"])
    assert {"name": "keys", "mountPath": str(place.parent), "readOnly": True} in container["volumeMounts"]
    assert {"name": "keys", "secret": {"secretName": "keys"}} in spec["volumes"]
    for name in ("admin_key", "api_keys_file", "records"):
        with pytest.raises(helm.HelmError, match=name):
            render({"settings": {name: "x"}})


def test_the_rules_are_those_of_the_alerts_file(rendered: dict[str, Any]):
    rules = rendered["all"]["PrometheusRule"]
    assert rules["spec"] == yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    assert rules["metadata"]["labels"]["release"] == "prometheus"
    assert rendered["all"]["ServiceMonitor"]["metadata"]["labels"]["release"] == "prometheus"


def test_a_digest_wins_over_a_tag(rendered: dict[str, Any]):
    assert pod(rendered["all"])["containers"][0]["image"] == f"percept-nlp@sha256:{'0' * 64}"
    assert pod(render({"image": {"tag": "7"}}))["containers"][0]["image"] == "percept:7"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"settings": {"max_qeue": 3}}, "max_qeue"),
        ({"settings": {"workers": 4}}, "workers"),
        ({"replica": 3}, "replica"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"autoscaling": {"cpuUtilization": None}}, "autoscaling needs a metric"),
        ({"apiKeys": {"existingSecret": "keys"}, "serviceMonitor": {"enabled": True}}, "needs a key too"),
        ({"loop": {"existingClaim": "models", "monitor": {"enabled": True}}}, "set records.existingSecret"),
        ({"loop": {"retrain": {"enabled": True}}, "records": {"existingSecret": "records"}}, "set loop.existingClaim"),
        ({"loop": {"retrain": {"data": "it's"}}}, "data"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], message: str):
    with pytest.raises(helm.HelmError, match=message):
        render(values)


def test_the_schema_of_the_values_knows_every_setting_and_no_other():
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]["settings"]["properties"]) == set(Settings.model_fields) - {
        "admin_key",
        "api_keys_file",
        "records",
    }
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(values) == set(schema["properties"]) - {"global"}


def test_kserve_gets_a_pod_that_kubernetes_takes_and_routes_that_there_are():
    service = yaml.safe_load((DEPLOY / "kserve" / "vision.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = dict(service["spec"]["predictor"])
    own = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "containerConcurrency", "timeout"}
    assert own <= set(predictor)
    spec = {key: value for key, value in predictor.items() if key not in own}
    example = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "percept"}, "spec": spec}
    kubernetes_validate.validate(example, KUBERNETES[-1], strict=True)
    (container,) = spec["containers"]
    assert container["name"] == "kserve-container"
    assert container["ports"][0]["containerPort"] == PORT
    assert predictor["timeout"] > Settings().deadline_s
    assert settings_of({each["name"]: each["value"] for each in container["env"]}).workers == 1
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {SCRATCH, STATE}
    asked = [container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")]
    assert asked == ["/v2/health/ready", "/v2/health/live"]
    assert set(asked) <= OPEN_ROUTES  # probes have no key


# The loop

LOOP: dict[str, Any] = {
    "records": {"existingSecret": "records"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {"egress": [{"ports": [{"port": 5432}]}]},
    "loop": {
        "existingClaim": "models",
        "image": {"repository": "registry.example/percept-loop", "tag": "1"},
        "monitor": {"enabled": True, "every": "15m"},
        "retrain": {"enabled": True, "task": "intent", "data": "intents"},
    },
}


def looped() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the objects of the loop by kind and part."""
    objects = render_all(LOOP)
    found = {(each["kind"], each["metadata"]["name"].removeprefix("shop-percept-")): each for each in objects}
    assert len(found) == len(objects)
    return {key: each for key, each in found.items() if key[1] in ("monitor", "retrain")}


def loop_pods() -> dict[str, dict[str, Any]]:
    objects = looped()
    template = objects["CronJob", "retrain"]["spec"]["jobTemplate"]["spec"]["template"]
    return {"monitor": objects["Deployment", "monitor"]["spec"]["template"], "retrain": template}


def test_without_being_asked_nothing_of_the_loop_is_installed(rendered: dict[str, Any]):
    for objects in rendered.values():
        assert {"CronJob", "PodMonitor"} & set(objects) == set()


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_object_of_the_loop(version: str):
    objects = looped()
    assert set(objects) == {
        ("Deployment", "monitor"), ("NetworkPolicy", "monitor"), ("PodMonitor", "monitor"), ("CronJob", "retrain"),
        ("NetworkPolicy", "retrain"),
    }  # fmt: skip
    for (kind, _), each in objects.items():
        if kind != "PodMonitor":
            kubernetes_validate.validate(each, version, strict=True)


def test_the_pods_of_the_loop_are_confined_read_the_url_from_the_secret_and_share_the_volume():
    for part, template in loop_pods().items():
        spec = template["spec"]
        assert spec["securityContext"] == pod(render({}))["securityContext"]
        (container,) = spec["containers"]
        assert container["securityContext"] == pod(render({}))["containers"][0]["securityContext"]
        assert container["image"] == "registry.example/percept-loop:1"
        (url,) = container["env"]
        assert url["name"] == f"{PREFIX}RECORDS"
        assert url["valueFrom"]["secretKeyRef"] == {"name": "records", "key": "records-url"}
        claims = [each["persistentVolumeClaim"] for each in spec["volumes"] if "persistentVolumeClaim" in each]
        assert claims == [{"claimName": "models"}]
        mounts = {each["mountPath"]: each.get("readOnly", False) for each in container["volumeMounts"]}
        assert mounts == {SCRATCH: False, STATE: part == "monitor"}
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])


def test_no_request_to_the_service_goes_to_a_pod_of_the_loop():
    everything = {(each["kind"], each["metadata"]["name"]): each for each in render_all(LOOP)}
    selected = everything["Service", "shop-percept"]["spec"]["selector"]
    assert selected == everything["Deployment", "shop-percept"]["spec"]["selector"]["matchLabels"]
    for template in loop_pods().values():
        assert not selected.items() <= template["metadata"]["labels"].items()


def test_prometheus_finds_the_monitor_at_its_port():
    objects = looped()
    labels = loop_pods()["monitor"]["metadata"]["labels"]
    (container,) = loop_pods()["monitor"]["spec"]["containers"]
    spec = objects["PodMonitor", "monitor"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert container["ports"] == [{"name": spec["podMetricsEndpoints"][0]["port"], "containerPort": 9400}]
    assert container["args"][-2:] == ["--port", "9400"]
    policy = objects["NetworkPolicy", "monitor"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert policy["ingress"][0]["ports"] == [{"port": "metrics", "protocol": "TCP"}]
    assert policy["egress"] == objects["NetworkPolicy", "retrain"]["spec"]["egress"] == [{"ports": [{"port": 5432}]}]
    assert objects["NetworkPolicy", "retrain"]["spec"]["ingress"] == []


@pytest.mark.parametrize(("status", "ends"), [(0, 0), (3, 0), (1, 1), (2, 1)])
def test_a_retraining_that_found_no_new_review_is_no_failure(status: int, ends: int, tmp_path: Path):
    (container,) = loop_pods()["retrain"]["spec"]["containers"]
    program = tmp_path / "percept"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nexit {status}\n')
    program.chmod(0o755)
    done = subprocess.run(
        [*container["command"], *container["args"]], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False
    )
    assert done.returncode == ends
    said = (tmp_path / "said").read_text()
    assert re.fullmatch(r"improve intent candidates/\d{4}-\d\d-\d\d --data intents --over registry/live\n", said)


def test_the_command_line_understands_what_the_pods_of_the_loop_run():
    monitor = loop_pods()["monitor"]["spec"]["containers"][0]["args"]
    improve = ["intent", "candidates/1", "--data", "intents", "--over", "registry/live"]
    assert monitor[0] == "monitor"
    with scripts.monitor.command.make_context("monitor", monitor[1:], default_map={"url": "sqlite:///x"}) as context:
        assert context.params["port"] == 9400
    with scripts.improve.command.make_context("improve", improve) as context:
        assert context.invoked_subcommand is None or context.invoked_subcommand == "intent"
