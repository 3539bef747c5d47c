"""The keys of job sets: ``jobs``, ``defaults`` and what stands in them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain import nodes
from airflow_calib_provider.domain.keys import BLOCKS, Blocks, Either, Keys, NotEmpty, Then, Where, Words
from airflow_calib_provider.domain.lengths import HINT, too_long
from airflow_calib_provider.domain.scalars import (
    CONNECTION,
    NAME,
    TAG_LENGTH,
    WHAT,
    Duration,
    Fraction,
    OneOf,
    Reads,
    Schema,
    Size,
    Text,
    filled,
    integer,
    is_text,
    mistake,
    text,
    unlike,
    whole,
)
from airflow_calib_provider.errors import KindError, RenderError
from airflow_calib_provider.kinds import BACKENDS, DEFAULT_BACKEND
from airflow_calib_provider.spec.failure_keys import RuleKeys
from airflow_calib_provider.spec.kinds import backend_kind
from airflow_calib_provider.spec.language import CONTRACT, MAX_JOBS, OF_STEPS
from airflow_calib_provider.spec.templates import is_template, problems_of, render_value, split_command, uses_of

KEEP = timedelta(days=30)

_SHELL = frozenset({"&&", "||", "|", ";", ">", ">>", "<", "&", "2>&1"})
_COMMAND = "a program and its arguments"


def _command_line(value: object) -> tuple[str, ...]:
    line = text(value, "a command")
    try:
        words = split_command(line)
    except RenderError as error:
        raise mistake(error.message, hint=error.hint) from error
    word = next((word for word in words if word in _SHELL), None)
    if word is not None:
        hint = f'for a shell: [bash, -c, "…"], or quote the {word!r}'
        raise mistake(f"{word!r} in a command, which no shell reads", _COMMAND, hint)
    return tuple(words)


def _filled_command(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0].strip():
        raise mistake("the command is empty", _COMMAND)
    if said := too_long(["" if is_template(word) else word for word in words], {}):
        raise mistake(said, hint=HINT)
    return words


def _count(value: object) -> int | str:
    if isinstance(value, nodes.Scalar) and value.kind == "text" and is_template(value.text):
        return _counted(value.text)
    return integer(value, 1, MAX_JOBS)


def _counted(template: str) -> str:
    """A template for a number; what has no variables is one already."""
    try:
        found = render_value(template, {}) if not problems_of(template) and not uses_of(template) else 1
    except RenderError:
        return template  # told where all templates are checked
    if isinstance(found, bool) or not isinstance(found, int | float) or found not in range(1, MAX_JOBS + 1):
        raise mistake(f"{WHAT} is {template!r}, which gives {found!r}", f"a whole number from 1 to {MAX_JOBS}")
    return template


def _variable(value: object) -> str:
    found = text(value)
    if not NAME.fullmatch(found.lstrip("_")):
        raise mistake(f"{found!r} is no name of an environment variable", "letters, digits and '_'")
    if found in (*CONTRACT, *OF_STEPS):
        raise mistake(f"{found} is set for every job, and cannot be set otherwise", "another name")
    return found


def _input(value: object) -> str:
    found = filled(value)
    if not is_template(found) and any(sign in found for sign in "\n\r"):
        raise mistake(f"{WHAT} holds a line break", "one path or URL")
    return found


def _credential(value: object) -> str:
    found = filled(value)
    if is_template(found):
        raise mistake(f"{WHAT} is a template", "a path that stays the same")
    if not found.startswith("/"):
        hint = "write the path without FILE:" if found.upper().startswith("FILE:") else ""
        raise mistake(f"{WHAT} is {found!r}", "an absolute path", hint)
    if any(sign in found for sign in "\n\r\0"):
        raise mistake(f"{WHAT} holds a line break", "one path")
    return found


def _backend(value: object) -> str:
    if not is_text(value):
        text(value, _backends())
    found = text(value)
    name, colon, connection = found.partition(":")
    if name not in BACKENDS:
        raise unlike(value, _backends(), word=name, options=BACKENDS.names())
    try:
        kind = backend_kind(name)
    except KindError as error:
        raise mistake(error.message, hint=error.hint) from error
    if colon and not kind.connection:
        raise unlike(value, _backends(), word=name, options=BACKENDS.names())
    if colon and not (CONNECTION.fullmatch(connection) and len(found) <= TAG_LENGTH):
        raise unlike(value, f"{name}:<connection id>", f"without a connection: {name}")
    return found


def _backends() -> str:
    connected = [name for name in BACKENDS.own if backend_kind(name).connection]
    *all_but_last, last = [*BACKENDS.names(), *(f"{name}:<connection id>" for name in connected)]
    return f"{', '.join(all_but_last)} or {last}"


def _backend_schema() -> Schema:
    names = BACKENDS.names()
    connected = [name for name in names if backend_kind(name).connection]
    pattern = "|".join([*names, *(rf"{name}:{CONNECTION.pattern}" for name in connected)])
    return {"type": "string", "pattern": f"^({pattern})$"}


CommandLine = Annotated[tuple[str, ...], Reads(_command_line, {"type": "string", "pattern": r"\S"}, "template")]
Command = Annotated[
    tuple[str, ...],
    Either(sequence=Annotated[tuple[Text, ...], NotEmpty(_COMMAND, "the command is empty")], scalar=CommandLine),
    Then(_filled_command),
]
Backend = Annotated[str, Reads(_backend, _backend_schema, "backend")]
Count = Annotated[
    int | str,
    Reads(
        _count,
        {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_JOBS}, {"type": "string", "pattern": r"\{\{"}]},
        f"1 to {MAX_JOBS:,}, or a template that gives such a number",
    ),
]
PerJob = Annotated[int, whole(1, 1_000_000)]
Cpus = Annotated[int, whole(1, 4096)]
Gpus = Annotated[int, whole(0, 1024)]
Retries = Annotated[int, whole(0, 100)]
Variable = Annotated[str, Reads(_variable, {"type": "string", "pattern": "^_*[A-Za-z][A-Za-z0-9_]*$"}, "name")]
Environment = dict[Variable, Text]


class ResourcesKeys(Keys):
    """``resources``."""

    cpus: Annotated[Cpus, Field(description="CPUs of one job")] = 1
    memory: Annotated[Size | None, Words(default="the backend's"), Field(description="memory of one job")] = None
    disk: Annotated[Size | None, Words(default="the backend's"), Field(description="scratch space of one job")] = None
    gpus: Annotated[Gpus, Field(description="GPUs of one job; the local backend looks at CPUs and memory only")] = 0


CredentialFile = Annotated[
    str, Reads(_credential, {"type": "string", "pattern": "^/", "not": {"pattern": r"\{\{"}}, "absolute path")
]


class CredentialsKeys(Keys):
    """``credentials``."""

    called: ClassVar[str] = "{above}.{key}"

    proxy: Annotated[
        CredentialFile | None,
        Field(description="an X.509 proxy; jobs have the path in `X509_USER_PROXY`"),
    ] = None
    token: Annotated[
        CredentialFile | None,
        Field(description="a SciToken or other JSON Web Token; in `BEARER_TOKEN_FILE`"),
    ] = None
    kerberos: Annotated[
        CredentialFile | None,
        Field(description="a Kerberos credential cache that is a file of version 4; in `KRB5CCNAME`, with `FILE:`"),
    ] = None


class SplitKeys(Keys):
    """``split``."""

    count: Annotated[
        Count | None,
        Words(name="{above}.{key}"),
        Field(
            description="so many jobs, which share the inputs in order: each input is in exactly one job, and shares "
            "differ by one at most. More jobs than inputs are an error"
        ),
    ] = None
    per_job: Annotated[
        PerJob | None, Words(type="at least 1"), Field(description="so many inputs for each job; needs `inputs`")
    ] = None
    inputs: Annotated[
        Annotated[Literal["shared", "all"], OneOf()],
        Field(description="with `count`: `{count: 3, inputs: all}` gives all inputs to each job"),
    ] = "shared"

    def is_both(self) -> bool:
        """Whether it says two things at once."""
        return self.has("count") and self.has("per_job")

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """Jobs are split in one way, and inputs only by count."""
        if self.is_both():
            yield (), mistake(f"{WHAT} has both count and per_job", "one of them")
        if self.has("inputs") and not self.has("count"):
            yield ("inputs",), mistake("split.inputs without count", "split.count")

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        return {"not": {"required": ["count", "per_job"]}, "dependentRequired": {"inputs": ["count"]}}


class InputsKeys(Keys):
    """``inputs``, where a command prints them."""

    command: Annotated[
        Command | None,
        Words(item="an argument of the command", missing="a command", type="as `jobs.command`"),
        Field(description="prints one path or URL a line"),
    ] = None


_Input = Annotated[str, Reads(_input, {"type": "string", "pattern": r"\S"}, "template")]
Inputs = Annotated[
    str | tuple[str, ...] | InputsKeys,
    Either(
        scalar=_Input,
        sequence=Annotated[tuple[_Input, ...], NotEmpty("at least one input")],
        mapping=InputsKeys,
    ),
]

_CREDENTIALS = Words(name="{above}.{key}", default="from `defaults`")
_RESOURCES = Words(name="{above}.{key}", type="mapping")
_FAILURES = Words(name="{above}.{key}", item="a rule of failures", type="list of rules", default="none")
_ENVIRONMENT = Words(
    name="{above}.{key}", key="a variable of {above}", type="mapping of names to templates", default="none"
)
_BLOCK = Words(default="nothing")


class DefaultsKeys(Keys):
    """``defaults``."""

    backend: Annotated[
        Backend,
        Words(type="`local`, `condor` or `kubernetes`; the last two also with a connection: `condor:<connection id>`"),
        Field(
            description="where jobs run: on the host of the triggerer, or on the pool or cluster of an Airflow "
            "connection (`calib_condor`, `kubernetes_default` unless another is named)"
        ),
    ] = DEFAULT_BACKEND
    retries: Annotated[Retries, Field(description="see [jobs](#jobs)")] = 3
    quorum: Annotated[Fraction, Field(description="see [jobs](#jobs)")] = 1.0
    timeout: Annotated[Duration | None, Field(description="see [jobs](#jobs)")] = None
    resources: Annotated[
        ResourcesKeys,
        Words(name="{above}.{key}", type="mapping", default="one CPU"),
        Field(description="see [resources](#resources)"),
    ] = ResourcesKeys.unstated()
    environment: Annotated[Environment, _ENVIRONMENT, Field(default_factory=dict, description="see [jobs](#jobs)")]
    credentials: Annotated[
        CredentialsKeys,
        Words(name="{above}.{key}", type="mapping", default="none"),
        Field(description="see [credentials](#credentials)"),
    ] = CredentialsKeys.unstated()
    failures: Annotated[tuple[RuleKeys, ...], _FAILURES, Field(description="see [failures](#failures)")] = ()
    blocks: Annotated[
        dict[str, Keys],
        Blocks(BACKENDS),
        _BLOCK,
        Field(default_factory=dict, alias=BLOCKS, description="without effect on tasks of other backends"),
    ]
    keep: Annotated[Duration, Words(default="`30d`"), Field(description="see [jobs](#jobs)")] = KEEP


class JobsKeys(Keys):
    """``jobs``."""

    command: Annotated[
        Command | None,
        Words(item="an argument of the command", missing="a command", type="list of templates, or one"),
        Field(
            description="each element is one argument, whatever its value contains. One text is split as a POSIX shell "
            "would split it, before anything is rendered; no shell ever sees it"
        ),
    ] = None
    split: Annotated[
        SplitKeys | None,
        NotEmpty("count or per_job"),
        Words(default="one job"),
        Field(description="how the set becomes jobs: [split](#split)"),
    ] = None
    inputs: Annotated[
        Inputs | None,
        Words(type="template, list of templates, or mapping"),
        Field(description="the input files: [inputs](#inputs)"),
    ] = None
    environment: Annotated[
        Environment,
        Words(
            name="{above}.{key}",
            key="a variable of {above}",
            type="mapping of names to templates",
            default="from `defaults`",
        ),
        Field(default_factory=dict, description="variables of the jobs, which inherit only [these](#environment)"),
    ]
    resources: Annotated[
        ResourcesKeys | None,
        Words(name="{above}.{key}", default="from `defaults`"),
        Field(description="what a job needs: [resources](#resources)"),
    ] = None
    credentials: Annotated[
        CredentialsKeys | None,
        _CREDENTIALS,
        Field(description="files that the jobs need and somebody renews: [credentials](#credentials)"),
    ] = None
    retries: Annotated[
        Retries | None,
        Words(default="from `defaults`, else 3"),
        Field(description="`3` means four attempts of each job; failures of the infrastructure are not counted"),
    ] = None
    quorum: Annotated[
        Fraction | None,
        Words(default="from `defaults`, else 1.0"),
        Field(description="the fraction of the jobs that is enough; the rest is removed then"),
    ] = None
    timeout: Annotated[
        Duration | None,
        Words(default="from `defaults`, else none"),
        Field(description="wall time of one attempt"),
    ] = None
    failures: Annotated[
        tuple[RuleKeys, ...],
        Words(
            name="{above}.{key}",
            item="a rule of failures",
            type="list of rules",
            default="those of `defaults` follow",
        ),
        Field(description="what becomes of a job that failed or is held: [failures](#failures)"),
    ] = ()
    blocks: Annotated[
        dict[str, Keys],
        Blocks(BACKENDS),
        Words(default="from `defaults`"),
        Field(default_factory=dict, alias=BLOCKS, description="where the backend is this one"),
    ]
    keep: Annotated[
        Duration | None,
        Words(default="from `defaults`, else `30d`"),
        Field(
            description="how long the backend's records, logs and failed attempts are kept after the end of a "
            "generation; accepted products are not removed then"
        ),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What is split must be there, and fit how it is split."""
        if self.split is None or self.split.is_both():
            return
        if self.split.has("per_job") and not self.has("inputs"):
            yield ("split", "per_job"), mistake("split.per_job without inputs", "jobs.inputs")
        if self.split.has("inputs") and self.split.has("count") and not self.has("inputs"):
            yield ("split", "inputs"), mistake("split.inputs without inputs", "jobs.inputs")
        yield from self._check_shares(self.split)

    @classmethod
    def more_schema(cls) -> Schema:
        """Inputs that are shared out must be listed."""
        shared = {"anyOf": [{"required": ["per_job"]}, {"required": ["inputs"]}]}
        return {"if": {"properties": {"split": shared}, "required": ["split"]}, "then": {"required": ["inputs"]}}

    def _check_shares(self, split: SplitKeys) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What can be told before anything is rendered: an input that is a template may become several."""
        inputs = self.inputs
        if not isinstance(inputs, tuple) or not isinstance(split.count, int) or split.inputs == "all":
            return
        if split.count > len(inputs) and not any(is_template(item) for item in inputs):
            said = f"split.count is {split.count}, and there are {len(inputs)} inputs to share"
            hint = "inputs: all beside count gives all inputs to each job"
            yield ("split", "count"), mistake(said, "at most one job for each input", hint)
