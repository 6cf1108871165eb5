"""The Kubernetes job template, as far as a Prefect server knows it: no cluster is here."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml
from sitekit import DEPLOYMENTS

if TYPE_CHECKING:
    from pathlib import Path

    from sitekit import Site

TEMPLATE = DEPLOYMENTS / "kubernetes/pool.json"


def documents() -> dict[str, Any]:
    text = (DEPLOYMENTS / "kubernetes/worker.yaml").read_text()
    return {f"{d['kind']}/{d['metadata']['name']}": d for d in yaml.safe_load_all(text)}


def test_a_server_takes_the_template_and_our_deployments(server: Site, tmp_path: Path) -> None:
    server.cli(
        "work-pool", "create", "k8s", "--type", "kubernetes", "--base-job-template", str(TEMPLATE)
    )
    told = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())
    for one in told["deployments"]:
        one["name"] += "-k8s"
        one["work_pool"]["name"] = "k8s"
        one.pop("schedules", None)
    file = tmp_path / "prefect.yaml"
    file.write_text(json.dumps(told))
    server.cli("deploy", "--all", "--prefect-file", str(file), cwd=tmp_path)
    made = {one.name for one in server.deployments().values() if one.work_pool_name == "k8s"}
    assert made == {one["name"] for one in told["deployments"]}
    with server.client as client:
        kept = client.read_work_pool("k8s").base_job_template
    assert kept["job_configuration"] == json.loads(TEMPLATE.read_text())["job_configuration"]


def test_each_variable_is_used_and_each_used_is_there() -> None:
    template = json.loads(TEMPLATE.read_text())
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])


def test_jobs_and_worker_share_their_volumes_and_image() -> None:
    variables = json.loads(TEMPLATE.read_text())["variables"]["properties"]
    manifest = json.loads(TEMPLATE.read_text())["job_configuration"]["job_manifest"]
    job = manifest["spec"]["template"]["spec"]
    worker = documents()["Deployment/ctaflows-worker"]["spec"]["template"]["spec"]
    assert job["containers"][0]["volumeMounts"] == worker["containers"][0]["volumeMounts"]
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in worker["volumes"]}
    for name, claim in claims.items():
        assert f"PersistentVolumeClaim/{claim}" in documents()
        assert variables[f"{name}_claim"]["default"] == claim
    assert variables["image"]["default"] == worker["containers"][0]["image"]
    assert "registry.example.org/ctaflows" in worker["containers"][0]["image"]
    container = (DEPLOYMENTS / "kubernetes/Containerfile").read_text()
    assert "CTAFLOWS_CONFIG_DIR=/home/ctaflows/config" in container
