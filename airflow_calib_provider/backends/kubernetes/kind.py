"""The Kubernetes backend, as specs, connections and people know it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_calib_provider.spec.kinds import BackendKind, ConnectionType, Integration

if TYPE_CHECKING:
    from pydantic_core import PydanticCustomError

    from airflow_calib_provider.backends.kubernetes.keys import KubernetesKeys
    from airflow_calib_provider.domain.keys import Where

CONNECTION = ConnectionType(
    name="kubernetes",
    default_id="kubernetes_default",
    settings="airflow_calib_provider.hooks.kubernetes:kubernetes_settings",
    hook="airflow_calib_provider.hooks.kubernetes.KubernetesJobsHook",
    integration=Integration("Kubernetes", "https://kubernetes.io/docs/"),
    of="apache-airflow-providers-cncf-kubernetes",
)

BY_NAME = (
    "annotations",
    "extended_resources",
    "labels",
    "node_selector",
    "secret_environment",
    "volumes",
)
"""Mappings of a block that are merged by name with those of the defaults."""


class KubernetesKind(BackendKind):
    """Jobs on a Kubernetes cluster."""

    name = "kubernetes"
    loader = "airflow_calib_provider.backends.kubernetes.backend:KubernetesBackend"
    connection = CONNECTION
    operators = ("airflow_calib_provider.operators.kubernetes",)

    @property
    def keys(self) -> type[KubernetesKeys]:
        """The model of the block ``kubernetes``."""
        from airflow_calib_provider.backends.kubernetes.keys import KubernetesKeys

        return KubernetesKeys

    def merged(self, defaults: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
        """Key by key, as for any backend; what has names is merged by them, and patches follow each other in a list."""
        result = {**defaults, **own}
        for key in BY_NAME:
            if named := {**_mapping(defaults, key), **_mapping(own, key)}:
                result[key] = named
        result["patch"] = [patch for block in (defaults, own) if (patch := _mapping(block, "patch"))]
        return {key: value for key, value in result.items() if value not in ({}, [])}

    def check(self, block: Mapping[str, object]) -> Iterator[tuple[Where, PydanticCustomError]]:
        """An image and the spool's volume must be there; users, mounts and patch must fit the rest."""
        from airflow_calib_provider.backends.kubernetes.whole import mistakes_of_block

        return mistakes_of_block(block)

    def shares(self, block: Mapping[str, object], path: Path) -> bool:
        """What lies on a volume; all else that a pod has is its image's."""
        from airflow_calib_provider.settings import calib_home

        spool = {"mount": str(calib_home()), **_mapping(block, "spool")}
        files = (volume for volume in _mapping(block, "volumes").values() if not {"config_map", "secret"} & set(volume))
        return any(path.is_relative_to(str(volume["mount"])) for volume in (spool, *files))

    def reserves(self, block: Mapping[str, object]) -> str:
        """Where an image has a shell: its pods have the mailbox, as they have all of the spool."""
        return "in an image without a shell" if block.get("shell") is False else ""


def _mapping(block: Mapping[str, object], key: str) -> dict[str, Any]:
    value = block.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


KIND = KubernetesKind()
