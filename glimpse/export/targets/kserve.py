"""The KServe target: the manifest of a service that runs a model repository in Triton. Standard library only.

Source: KServe's v1beta1 InferenceService and the rules of its admission webhook.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from glimpse.contract.card import ModelCard
from glimpse.export.targets.ownership import DeploymentError, check_ours, marked, seal_of
from glimpse.export.targets.target import Target, TargetOption
from glimpse.files import write_problem, write_whole

METRICS = {"cpu": 80, "concurrency": 8, "rps": 50}
"""What a service may be scaled by, and the figure at which it gets another replica: per cent of the CPU on plain
Kubernetes; with Knative, requests at once or requests a second."""


@dataclass(frozen=True)
class KServeTarget(Target):
    """The manifest of a KServe service, see :func:`write_kserve`.

    Attributes:
        storage_uri: Where the cluster finds the model repository.
    """

    kind: ClassVar[str] = "kserve"
    place_metavar: ClassVar[str] = "FILE"
    summary: ClassVar[str] = "the manifest of an InferenceService over such a repository"
    options: ClassVar[tuple[TargetOption, ...]] = (
        TargetOption(
            "storage_uri",
            "URI",
            "where a cluster finds the model repository",
            "s3://bucket/models",
            "it says where the cluster finds the model repository that the target triton writes",
        ),
    )

    storage_uri: str = ""

    @staticmethod
    def check_name(name: str) -> None:
        """Reject what :func:`check_service_name` rejects."""
        check_service_name(name)

    def check(self) -> None:
        """Reject what :func:`check_manifest` rejects."""
        check_manifest(self.place, self.name, self.storage_uri)

    def deliver(self, model: Path, card: ModelCard) -> Path:
        """Write the manifest, and return its path."""
        write_kserve(model, card, self.place, self.name, self.storage_uri, gpu=self.gpu)
        return self.place


def check_service_name(name: str) -> None:
    """Reject a name that Kubernetes does not accept for a service.

    Args:
        name: What the service is to be called: small letters, digits and ``-``, no more than 63, a letter first.

    Raises:
        DeploymentError: When the name is not valid.
    """
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise DeploymentError(
            "expected a service name of 1 to 63 small letters, digits and '-' that begins with a letter and does not "
            f"end in '-' (a DNS label), got {name!r}; choose another"
        )


def check_manifest(path: Path, name: str, storage_uri: str) -> None:
    """Reject what :func:`write_kserve` could not write; nothing is written.

    Args:
        path: Where the manifest is to be written.
        name: What the service is to be called.
        storage_uri: Where the cluster is to find the model repository.

    Raises:
        DeploymentError: When the name or the address is not valid, the file can't be written, or the file there was
            not written by Glimpse or was edited since.
    """
    check_service_name(name)
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s\"]+", storage_uri):
        raise DeploymentError(
            f"expected an address such as s3://bucket/models, got {storage_uri!r}; say where the cluster finds the "
            "model repository"
        )
    if problem := write_problem(path):
        raise DeploymentError(problem)
    if path.exists():
        check_ours(path)


def write_kserve(
    model: Path,
    card: ModelCard,
    path: Path,
    name: str,
    storage_uri: str,
    *,
    metric: str = "cpu",
    min_replicas: int = 1,
    max_replicas: int = 4,
    gpu: bool = False,
) -> None:
    """Write the manifest of a KServe InferenceService that runs the model in Triton.

    KServe starts Triton on the folder at the address. It has to be a model repository that
    :func:`glimpse.export.targets.triton.write_triton` wrote, with the model under the same name.

    Args:
        model: The exported file.
        card: Its card.
        path: Where to write; a manifest that Glimpse wrote is replaced.
        name: What the service is called: small letters, digits and ``-``, no more than 63, a letter first.
        storage_uri: Where the cluster finds the model repository, such as ``s3://bucket/models`` or ``pvc://claim``.
        metric: By what it is scaled, one of ``METRICS``: ``cpu`` on plain Kubernetes, ``concurrency`` or ``rps`` with
            Knative.
        min_replicas: The least number of copies of the service; 0 needs Knative, and stops the idle service.
        max_replicas: The largest number of copies.
        gpu: Whether each replica gets a GPU, as a repository needs that was written for GPUs.

    Raises:
        ContractError: When the file is not sealed, or was changed after it was.
        DeploymentError: When an argument is not valid, the file can't be written, or the file there was not written
            by Glimpse or was edited since.
    """
    check_manifest(path, name, storage_uri)
    if metric not in METRICS:
        raise DeploymentError(f"expected a metric out of {', '.join(METRICS)}, got {metric!r}; choose one of them")
    knative = metric != "cpu"
    if not (0 if knative else 1) <= min_replicas <= max_replicas or not max_replicas:
        raise DeploymentError(
            f"expected at least 1 replica (0 with concurrency or rps, which Knative scales by), and at most as many as "
            f"the greatest number, got {min_replicas} to {max_replicas} by {metric}; change one of them"
        )
    digest = seal_of(model)
    manifest = _MANIFEST.format(
        name=name,
        short=digest[:12],
        digest=digest,
        family=json.dumps(card.model),
        graph=json.dumps(card.graph),
        mode="Knative" if knative else "Standard",
        min_replicas=min_replicas,
        max_replicas=max_replicas,
        metric=metric,
        target=METRICS[metric],
        storage_uri=json.dumps(storage_uri),
        gpu=_GPU if gpu else "",
    )
    write_whole(path, marked(manifest))


_MANIFEST = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
  labels:
    app.kubernetes.io/name: glimpse
    glimpse-model: "{short}"
  annotations:
    glimpse-sha256: "{digest}"
    glimpse-family: {family}
    glimpse-graph: {graph}
    serving.kserve.io/deploymentMode: {mode}
spec:
  predictor:
    minReplicas: {min_replicas}
    maxReplicas: {max_replicas}
    scaleMetric: {metric}
    scaleTarget: {target}
    model:
      modelFormat:
        name: onnx
      protocolVersion: v2
      runtime: kserve-tritonserver
      storageUri: {storage_uri}
      resources:
        requests:
          cpu: 500m
          memory: 1Gi
{gpu}        limits:
          cpu: "1"
          memory: 2Gi
{gpu}"""
_GPU = """\
          nvidia.com/gpu: "1"
"""
