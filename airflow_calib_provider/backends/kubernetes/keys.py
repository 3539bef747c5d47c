"""The keys of ``kubernetes`` in a spec: what a task says about its pods."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from airflow_calib_provider.backends.kubernetes.names import (
    GPU,
    OURS,
    Absolute,
    Amount,
    AnnotationKey,
    DataKey,
    DnsLabel,
    DnsName,
    Image,
    LabelKey,
    LabelValue,
    NodeLabel,
    PlainText,
    Relative,
    ResourceName,
    Server,
)
from airflow_calib_provider.backends.kubernetes.patch import Manifest, mistakes_of
from airflow_calib_provider.domain.keys import Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.scalars import WHAT, Duration, Flag, OneOf, Schema, mistake, whole
from airflow_calib_provider.spec.job_keys import Variable

Parallelism = Annotated[int, whole(1, 100_000)]
User = Annotated[int, whole(0, 2**31 - 1)]

_BELOW = Words(name="{above}.{key}")


class NfsKeys(Keys):
    """``nfs`` of a volume."""

    called: ClassVar[str] = "{above}.{key}"

    server: Annotated[Server | None, Words(missing="a host"), Field(description="its host")] = None
    path: Annotated[Absolute | None, Words(missing="an absolute path"), Field(description="what it exports")] = None


class SpoolKeys(Keys):
    """``spool``: a volume that others than pods write to."""

    called: ClassVar[str] = "{above}.{key}"
    sources: ClassVar[tuple[str, ...]] = ("pvc", "host_path", "nfs")

    pvc: Annotated[DnsName | None, Field(description="a PersistentVolumeClaim of the namespace")] = None
    host_path: Annotated[
        Absolute | None,
        Field(description="a folder of every node; Pod Security refuses it in `baseline` and `restricted` namespaces"),
    ] = None
    nfs: Annotated[
        NfsKeys | None,
        Words(type="`{server: …, path: …}`"),
        Field(description="a folder that an NFS server exports"),
    ] = None
    sub_path: Annotated[
        Relative | None, Words(default="all of it"), Field(description="this folder of the volume only")
    ] = None
    mount: Annotated[
        Absolute | None,
        Words(default="the path of `CALIB_HOME`"),
        Field(description="where the pods have it; paths in the contract with jobs are those of the pods"),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A volume has exactly one source."""
        stated = [source for source in self.sources if self.has(source)]
        if len(stated) != 1:
            said = f"has {' and '.join(stated)}" if stated else "says not what it is"
            yield (), mistake(f"{WHAT} {said}", f"exactly one of {', '.join(self.sources)}")

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        return {"oneOf": [{"required": [source]} for source in cls.sources]}


class VolumeKeys(SpoolKeys):
    """One of ``volumes``."""

    sources: ClassVar[tuple[str, ...]] = (*SpoolKeys.sources, "config_map", "secret")

    mount: Annotated[
        Absolute | None, Words(missing="an absolute path"), Field(description="where the pods have it")
    ] = None
    config_map: Annotated[DnsName | None, Field(description="a ConfigMap, a file for each of its keys")] = None
    secret: Annotated[DnsName | None, Field(description="a Secret, a file for each of its keys")] = None
    read_only: Annotated[Flag, Field(description="no job writes to it")] = False


class TolerationKeys(Keys):
    """One of ``tolerations``."""

    called: ClassVar[str] = "{above}.{key}"

    key: Annotated[NodeLabel | None, Words(default="any"), Field(description="of the taint")] = None
    operator: Annotated[
        Annotated[Literal["Equal", "Exists"], OneOf()], Field(description="`Exists` asks for no value")
    ] = "Equal"
    value: Annotated[LabelValue | None, Field(description="of the taint")] = None
    effect: Annotated[
        Annotated[Literal["NoSchedule", "PreferNoSchedule", "NoExecute"], OneOf()] | None,
        Words(default="all"),
        Field(description="of the taint"),
    ] = None
    seconds: Annotated[
        Annotated[int, whole(0, 10**9)] | None,
        Words(type="whole number", default="for ever"),
        Field(description="with `NoExecute`: how long a pod stays on a node that got the taint"),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """As the API server would check it."""
        if self.operator == "Exists" and self.has("value"):
            yield ("value",), mistake("a toleration that says 'Exists' has a value", "operator: Equal, or no value")
        if self.operator == "Equal" and not self.has("operator") and not self.has("value"):
            yield (), mistake(f"{WHAT} has no value", "value: …, or operator: Exists")
        if self.operator == "Equal" and not self.has("key"):
            yield (), mistake(f"{WHAT} has no key", "key: …, or operator: Exists")
        if self.has("seconds") and self.effect != "NoExecute":
            yield ("seconds",), mistake("seconds without the effect NoExecute", "effect: NoExecute")


class SecretKeys(Keys):
    """One of ``secret_environment``."""

    called: ClassVar[str] = "{above}.{key}"

    secret: Annotated[DnsName | None, Words(missing="its name"), Field(description="the name of a Secret")] = None
    key: Annotated[DataKey | None, Words(missing="one of its keys"), Field(description="the key of the value")] = None


class _OfSecret:
    """Part of a type: a value where a Secret is to be named is not repeated, as it may well be the secret."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: object) -> object:
            if not isinstance(value, dict):
                hint = "the value stands in that Secret of the cluster, and never in a spec"
                raise mistake(f"{WHAT} does not say which Secret has its value", "{secret: …, key: …}", hint)
            return value

        return core_schema.no_info_before_validator_function(read, handler(source))


class KubernetesKeys(Keys):
    """The block ``kubernetes``."""

    called: ClassVar[str] = "{above}.{key}"
    says: ClassVar[str] = "how the jobs run on a Kubernetes cluster: [kubernetes](#kubernetes)"

    image: Annotated[
        Image | None,
        Words(default="required, here or in `defaults`"),
        Field(description="what the jobs run in; it needs nothing of ours, not even a shell"),
    ] = None
    spool: Annotated[
        SpoolKeys | None,
        NotEmpty("exactly one of pvc, host_path, nfs"),
        Words(name="{above}.{key}", default="required, here or in `defaults`"),
        Field(
            description="the volume that Airflow's machines have as `CALIB_HOME`: [kubernetes.spool](#kubernetesspool)"
        ),
    ] = None
    image_pull_policy: Annotated[
        Annotated[Literal["Always", "IfNotPresent", "Never"], OneOf()] | None,
        Words(default="the cluster's"),
        Field(description="when a node fetches the image"),
    ] = None
    image_pull_secrets: Annotated[
        tuple[DnsName, ...],
        Words(name="{above}.{key}", type="list of names"),
        Field(description="Secrets with which a node fetches the image"),
    ] = ()
    volumes: Annotated[
        dict[DnsLabel, VolumeKeys],
        Words(name="{above}.{key}", key="the name of a volume", type="mapping of names to volumes"),
        Field(
            default_factory=dict,
            description="further volumes, merged by name: [kubernetes.volumes](#kubernetesvolumes)",
        ),
    ]
    parallelism: Annotated[
        Parallelism | None,
        Words(type="at least 1", default="1000"),
        Field(description="so many pods of a round exist at a time"),
    ] = None
    queue: Annotated[
        DnsName | None,
        Field(description="the local queue of Kueue that the jobs wait in"),
    ] = None
    priority_class: Annotated[DnsName | None, Words(default="the cluster's"), Field(description="of the pods")] = None
    scheduler: Annotated[DnsName | None, Words(default="the cluster's"), Field(description="who places the pods")] = (
        None
    )
    runtime_class: Annotated[DnsName | None, Words(default="the cluster's"), Field(description="what runs them")] = None
    node_selector: Annotated[
        dict[NodeLabel, LabelValue],
        Words(key="the name of a label", type="mapping of names to texts"),
        Field(default_factory=dict, description="labels that a node must have; merged by name"),
    ]
    tolerations: Annotated[
        tuple[TolerationKeys, ...],
        Words(name="{above}.{key}", type="list of tolerations"),
        Field(description="taints of nodes that do not matter: [kubernetes.tolerations](#kubernetestolerations)"),
    ] = ()
    affinity: Annotated[
        Manifest | None, Field(description="of the pods, as Kubernetes writes it (`nodeAffinity`, …)")
    ] = None
    labels: Annotated[
        dict[LabelKey, LabelValue],
        Words(key="the name of a label", type="mapping of names to texts"),
        Field(default_factory=dict, description="of the Jobs and their pods; merged by name"),
    ]
    annotations: Annotated[
        dict[AnnotationKey, PlainText],
        Words(key="the name of an annotation", type="mapping of names to texts"),
        Field(default_factory=dict, description="of the Jobs and their pods; merged by name"),
    ]
    service_account: Annotated[
        DnsName | None,
        Words(default="the namespace's, without a token"),
        Field(description="whom the jobs are; only one that is named here has its token in the pods"),
    ] = None
    cpu_request: Annotated[
        Amount | None,
        Words(default="`resources.cpus`"),
        Field(description="what a pod asks its node for, such as `250m` for a job that mostly waits for data"),
    ] = None
    gpu_resource: Annotated[
        ResourceName, Field(description="what `resources.gpus` asks for, such as `amd.com/gpu`")
    ] = GPU
    extended_resources: Annotated[
        dict[ResourceName, Amount],
        Words(key="the name of a resource", type="mapping of names to whole numbers or quantities"),
        Field(default_factory=dict, description="what a job needs besides `resources`; merged by name"),
    ]
    secret_environment: Annotated[
        dict[Variable, Annotated[SecretKeys, _OfSecret()]],
        Words(name="{above}.{key}", key="a variable of {above}", type="mapping of names to `{secret: …, key: …}`"),
        Field(default_factory=dict, description="variables of the jobs whose values are in Secrets; merged by name"),
    ]
    run_as_user: Annotated[
        User | None,
        Words(type="user id", default="that of Airflow's processes"),
        Field(description="whose the jobs' processes and files are; 0 only with `restricted: false`"),
    ] = None
    run_as_group: Annotated[
        User | None,
        Words(type="group id", default="that of Airflow's processes"),
        Field(description="their group"),
    ] = None
    supplemental_groups: Annotated[
        tuple[User, ...], Words(type="list of group ids"), Field(description="further groups, for files on volumes")
    ] = ()
    fs_group: Annotated[
        User | None,
        Words(type="group id"),
        Field(description="Kubernetes gives volumes to this group when a pod starts, where their driver can"),
    ] = None
    restricted: Annotated[
        Flag,
        Field(
            description="the pods are as the Pod Security Standard `restricted` wants them; `false` lets a job be "
            "root, and `patch` set what is refused else"
        ),
    ] = True
    shell: Annotated[
        Flag,
        Field(
            description="the image has a POSIX shell; where it has none, a static program that is built once starts "
            "its jobs: [images](kubernetes.md#images)"
        ),
    ] = True
    start_within: Annotated[
        Duration,
        Words(default="`10m`"),
        Field(
            description="a pod that is on its node so long and does not start (its image or a volume cannot be had) "
            "is removed, and its attempt has failed, class `start`"
        ),
    ] = timedelta(minutes=10)
    patch: Annotated[
        Manifest | None,
        Words(type="mapping as in a manifest"),
        Field(
            description="a strategic merge patch of the pod template, for what no key says: `{spec: {…}}`; the job's "
            "container is `job`"
        ),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """Names of volumes that are this package's own, and what a patch must not touch."""
        for name in self.volumes:
            if name.startswith(OURS):
                said = f"the volume {name!r} begins with {OURS!r}, as this package's do"
                yield ("volumes", name), mistake(said, "another name", at_key=True)
        for where, error in mistakes_of(self.patch or {}):
            yield ("patch", *where), error
