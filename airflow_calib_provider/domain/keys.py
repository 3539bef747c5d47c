"""Declaring the keys of a mapping: a pydantic model is the one declaration of each (rule 46).

Type, default, limits and sentence of documentation stand in one field; reading, unknown keys, the JSON Schema and the
tables of the reference follow from it. A member of a kind brings such a model for its own block::

    class PoolKeys(Keys):
        max_idle: Annotated[Whole | None, Field(description="so many of these are idle")] = None

The types are those of :mod:`~airflow_calib_provider.domain.scalars`, mappings ``dict`` and lists ``tuple`` of them;
those of Python work too, with messages of pydantic's. A key that must be there says in its :class:`Words` what is
expected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Self, Union, cast, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError, core_schema

from airflow_calib_provider.domain import nodes
from airflow_calib_provider.domain.scalars import (
    MISSING,
    WHAT,
    OneOf,
    Reads,
    Schema,
    SpelledKey,
    Written,
    boolean,
    mistake,
    number,
    text,
)
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import Kinds

_UNREADABLE = "unreadable"

BLOCKS = "\0blocks"
"""Where the blocks of members stand in what pydantic is given: no key of a file is called so."""

Where = tuple[str | int, ...]
"""Keys and positions of a list that lead to a value."""


@dataclass(frozen=True)
class Words:
    """What messages and the reference say of a value; ``{above}`` is what holds it, ``{key}`` its key.

    :ivar name: what it is called.
    :ivar item: what the elements of this list are called, :ivar entry: the values of this mapping,
    :ivar key: and its keys.
    :ivar missing: what is expected where it is left out; empty: it may be.
    :ivar type: in the reference, where the type does not say enough; :ivar default: likewise.
    """

    name: str = ""
    item: str = "an element of {above}"
    entry: str = "{above}.{key}"
    key: str = "a key of {above}"
    missing: str = ""
    type: str = ""
    default: str = ""


@dataclass
class Reading:
    """How a model reads: given as the context of pydantic.

    :ivar lenient: what is missing or could not be read is left out.
    :ivar crossed: some model has mistakes of its keys together.
    """

    lenient: bool = False
    crossed: bool = False


class Keys(BaseModel):
    """A mapping with fixed keys, as written.

    :cvar called: what messages call the value of a key that says nothing else,
    :cvar extra_called: and of a key that is not declared, where such are allowed.
    :cvar absent: keys that others have and this one cannot have, each with why.
    :cvar says: of the block of a member, :cvar extra_says: and of its keys that are not declared, for the reference.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    called: ClassVar[str] = "{key}"
    extra_called: ClassVar[str] = "{above}.{key}"
    says: ClassVar[str] = ""
    extra_says: ClassVar[str] = ""
    absent: ClassVar[Mapping[str, str]] = {}
    declared: ClassVar[dict[str, FieldInfo]] = {}
    required: ClassVar[tuple[str, ...]] = ()
    of_python: ClassVar[frozenset[str]] = frozenset()

    is_simple: ClassVar[bool] = True

    # Not private attributes of pydantic: these would be made for each model, and very few have them.
    __slots__ = ("_crossed", "_unreadable")

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        # What a class inherits stands behind what is its own.
        own = [name for name in cls.model_fields if name in cls.__annotations__]
        names = dict.fromkeys([*own, *cls.model_fields])
        cls.declared = {cls.model_fields[name].alias or name: cls.model_fields[name] for name in names}
        cls.required = tuple(
            key for key, field in cls.declared.items() if words_of(field).missing or field.is_required()
        )
        cls.of_python = frozenset(key for key, field in cls.declared.items() if not _reads(field))
        cls.is_simple = not cls.required and not cls.of_python and BLOCKS not in cls.declared

    @classmethod
    def unstated(cls, **values: Any) -> Self:
        """The mapping that states nothing, or only these keys, whose values are read already."""
        return cast(Self, cls.model_construct(None, **values))

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What is wrong with the keys together, each with its place in this mapping.

        Keys that could not be read are as if left out, but for :meth:`has`.
        """
        yield from ()

    def extra_keys(self) -> tuple[str, ...]:
        """The keys that are not declared, readable or not, where such are allowed."""
        return (*(self.__pydantic_extra__ or {}), *sorted(self.unreadable() - set(self.declared)))

    def has(self, key: str) -> bool:
        """Whether a key is stated, readable or not."""
        return key in self.__pydantic_fields_set__ or key in self.unreadable()

    def unreadable(self) -> frozenset[str]:
        """The keys that are stated and could not be read."""
        found: frozenset[str] = getattr(self, "_unreadable", frozenset())
        return found

    def crossed(self) -> tuple[tuple[Where, PydanticCustomError], ...]:
        """What :meth:`check` found."""
        found: tuple[tuple[Where, PydanticCustomError], ...] = getattr(self, "_crossed", ())
        return found

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, data: object, handler: ModelWrapValidatorHandler[Keys], info: ValidationInfo) -> Keys:
        reading = info.context if isinstance(info.context, Reading) else None
        if not isinstance(data, dict):
            return handler(data)
        lenient = reading is not None and reading.lenient
        lost = frozenset(key for key, value in data.items() if is_unreadable(value)) if lenient else frozenset()
        if not cls.is_simple or lost:
            data = cls._prepared(data, lost, lenient)
        model = handler(data)
        object.__setattr__(model, "_unreadable", lost)
        if cls.check is not Keys.check and (crossed := tuple(model.check())):
            if reading is None:
                raise _raised(cls.__name__, crossed)
            reading.crossed = True
            object.__setattr__(model, "_crossed", crossed)
        return model

    @classmethod
    def _prepared(cls, data: dict[str, object], lost: frozenset[str], lenient: bool) -> dict[str, object]:
        """What pydantic is given: without what could not be read, and with what stands for missing keys."""
        if lost:
            data = {key: value for key, value in data.items() if key not in lost}
        missing = [] if lenient else [key for key in cls.required if key not in data]
        if missing:
            data = {**data, **dict.fromkeys(missing, MISSING)}
        if BLOCKS in cls.declared:
            data = _with_blocks(cls, data)
        if cls.of_python:
            data = {key: _python(value) if key in cls.of_python else value for key, value in data.items()}
        return data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        made = handler(schema)
        cls.finish_schema(handler.resolve_ref_schema(made))
        return made

    @classmethod
    def finish_schema(cls, found: Schema) -> Schema:
        """What pydantic made of the keys, with what only their declarations know; to do it twice changes nothing."""
        found.pop("title", None)
        found.pop("description", None)
        if cls.required:
            found["required"] = list(cls.required)
        properties = found.get("properties")
        if isinstance(properties, dict) and (blocks := properties.pop(BLOCKS, None)) is not None:
            properties |= blocks["properties"]
        found.update(cls.more_schema())
        return found

    @classmethod
    def more_schema(cls) -> Schema:
        """What the JSON Schema says besides its properties: the part of :meth:`check` that it can tell."""
        return {}


class Either:
    """Part of a type: what stands there is read by its shape. Where no shape fits, the first one says so."""

    def __init__(self, **shapes: Any) -> None:
        self.shapes = shapes

    def of(self, value: object) -> str:
        """The name of the shape that reads a value."""
        shape = "mapping" if isinstance(value, dict) else "sequence" if isinstance(value, tuple) else "scalar"
        return shape if shape in self.shapes else next(iter(self.shapes))

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.tagged_union_schema(
            {name: handler.generate_schema(shape) for name, shape in self.shapes.items()}, discriminator=self.of
        )


class NotEmpty:
    """Part of a type: a list or mapping with something in it.

    :param said: what is said of one without; the default names it.
    """

    def __init__(self, expected: str | Callable[[], str], said: str = f"{WHAT} is empty") -> None:
        self.expected = expected
        self.said = said

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Written) -> Written:
            if value in ((), {}):
                expected = self.expected if isinstance(self.expected, str) else self.expected()
                raise mistake(self.said, expected)
            return value

        return core_schema.no_info_before_validator_function(read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        made = handler(schema)
        found = handler.resolve_ref_schema(made)
        limit = "minItems" if found.get("type") == "array" else "minProperties"
        return {**found, limit: 1} if found is made else {"allOf": [made], limit: 1}


class Then:
    """Part of a type: what is looked at when a value was read."""

    def __init__(self, check: Callable[[object], object]) -> None:
        self.check = check

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


class Blocks:
    """Part of a type: the blocks of a kind's members, which are keys of the mapping that has them."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds

    def names(self) -> tuple[str, ...]:
        """The members that have a block, or may have one: those of other packages are not loaded for this."""
        own = set(self.kinds.own)
        return tuple(name for name in self.kinds.names() if name not in own or self.may_have(name))

    def may_have(self, name: str) -> bool:
        """Whether a member has a block; one that cannot be loaded says so when its block is read."""
        try:
            return self.keys(name) is not None
        except KindError:
            return True

    def keys(self, name: str) -> type[Keys] | None:
        """The keys of a member."""
        found: type[Keys] | None = self.kinds.member(name).keys
        return found

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: dict[str, Written], info: ValidationInfo) -> dict[str, Keys]:
            for name in value:
                try:
                    self.keys(name)
                except KindError as error:
                    raise _raised(name, (((name,), mistake(error.message, error.hint, at_key=True)),)) from error
            model = _together(self, tuple(sorted(value)))
            found = model.model_validate(value, context=info.context)
            return {name: getattr(found, f"of_{name}") for name in value}

        return core_schema.with_info_plain_validator_function(read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        found = {}
        for name in self.kinds.names():
            keys = self.keys(name)
            if keys is not None:
                made = handler.resolve_ref_schema(handler(keys.__pydantic_core_schema__))
                found[name] = keys.finish_schema(made)
        return {"properties": found}


@cache
def _together(blocks: Blocks, names: tuple[str, ...]) -> type[BaseModel]:
    """A model of the blocks that are there, so that all mistakes in them are found with their places."""
    # By aliases: a member may be called as something of pydantic's own.
    fields: dict[str, Any] = {f"of_{name}": (blocks.keys(name), Field(alias=name)) for name in names}
    return create_model("Blocks", __config__=ConfigDict(strict=True), **fields)


def _reads(field: FieldInfo) -> bool:
    """Whether a key's type is one of the language; else it is one of Python, and pydantic alone reads it."""
    waiting = [type_of(field)]
    while waiting:
        kind, more = parts_of(waiting.pop())
        if any(isinstance(item, Reads | OneOf | Either | Blocks) for item in more):
            return True
        if isinstance(kind, type) and issubclass(kind, Keys):
            return True
        waiting += get_args(kind) if get_origin(kind) in (dict, tuple, Union, UnionType) else ()
    return False


def _python(value: object) -> object:
    """A value as Python has it, for keys of a member that is declared with Python's types."""
    if isinstance(value, dict):
        return {key: _python(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_python(item) for item in value)
    if not isinstance(value, nodes.Scalar) or value is MISSING:
        return value
    kinds: dict[str, Callable[[object], object]] = {"text": text, "bool": boolean, "float": number}
    if value.kind == "int" and len(value.text) < 20:
        return int(value.text)
    return kinds[value.kind](value) if value.kind in kinds else value


def _with_blocks(cls: type[Keys], data: dict[str, object]) -> dict[str, object]:
    blocks = blocks_of(cls)
    assert blocks is not None
    # Whoever writes this key means no blocks: it is unknown.
    rest = {f"{BLOCKS}?" if key == BLOCKS else key: value for key, value in data.items()}
    names = [key for key in rest if key not in cls.declared and key in blocks.kinds and blocks.may_have(key)]
    if names:
        rest[BLOCKS] = {name: rest.pop(name) for name in names}
    return rest


def _raised(title: str, found: tuple[tuple[Where, PydanticCustomError], ...]) -> ValidationError:
    details = [InitErrorDetails(type=error, loc=where, input=None) for where, error in found]
    return ValidationError.from_exception_data(title, details)


def blocks_of(cls: type[Keys]) -> Blocks | None:
    """The kind whose members' blocks are keys of a mapping."""
    field = cls.declared.get(BLOCKS)
    return next((item for item in field.metadata if isinstance(item, Blocks)), None) if field is not None else None


def keys_of(cls: type[Keys]) -> tuple[str, ...]:
    """All keys that a mapping may have, in the order of their declarations."""
    blocks = blocks_of(cls)
    names: list[str] = []
    for key in cls.declared:
        names += blocks.names() if blocks is not None and key == BLOCKS else [key]
    return tuple(names)


def words_of(field: FieldInfo) -> Words:
    """What a key's declaration says about it."""
    return next((item for item in field.metadata if isinstance(item, Words)), Words())


def type_of(field: FieldInfo) -> Any:
    """The type of a key with all that is annotated to it."""
    annotated: Any = Annotated
    return annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation


def parts_of(annotation: object) -> tuple[object, tuple[object, ...]]:
    """A type without what may be left out, and what is annotated to it."""
    found: tuple[object, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            found = (*more, *found)
            continue
        inner = [item for item in get_args(annotation) if item is not NoneType]
        if get_origin(annotation) in (Union, UnionType) and len(inner) == 1:
            annotation = inner[0]
            continue
        return annotation, found


def unreadable(node: nodes.Node) -> nodes.Scalar:
    """What stands where a key could not be read, so that the rest can be."""
    return nodes.Scalar("", _UNREADABLE, node.position)


def is_unreadable(value: object) -> bool:
    """Whether a value is :func:`unreadable`."""
    return isinstance(value, nodes.Scalar) and value.kind == _UNREADABLE


def data_of(node: nodes.Node) -> object:
    """A node as models read it: mappings and lists are Python's, single values nodes."""
    if isinstance(node, nodes.Scalar):
        return node
    if isinstance(node, nodes.Sequence):
        return tuple([data_of(item) for item in node.items])
    if node.is_template:
        return node
    return {
        name if entry.key.kind == "text" else _spelled(name, entry.key): data_of(entry.value)
        for name, entry in node.entries.items()
    }


def _spelled(name: str, node: nodes.Scalar) -> SpelledKey:
    key = SpelledKey(name)
    key.node = node
    return key
