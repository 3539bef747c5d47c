"""The JSON Schema of the language: what editors complete from, made of the declarations of the keys.

It is weaker than reading: what lies between keys of different tasks or files, and the templates, are not in it.
"""

from __future__ import annotations

import json

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from airflow_calib_provider.domain.keys import Keys
from airflow_calib_provider.domain.scalars import Schema
from airflow_calib_provider.spec.categories_file import CategoriesKeys
from airflow_calib_provider.spec.language import API_VERSION
from airflow_calib_provider.spec.messages_file import MessagesKeys
from airflow_calib_provider.spec.sources_keys import SourcesKeys
from airflow_calib_provider.spec.task_keys import WorkflowKeys

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Generator(GenerateJsonSchema):
    """Without titles, defaults that nobody writes, and the null that stands for what is left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {}
        keys.pop("type", None)
        values = self.generate_inner(schema["values_schema"]) if "values_schema" in schema else {}
        return {"type": "object", "additionalProperties": values, **({"propertyNames": keys} if keys else {})}

    def get_title_from_name(self, name: str) -> str:
        return ""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def schema() -> Schema:
    """The schema of all kinds of files: a workflow's, ``sources.yaml``, ``categories.yaml`` and ``messages.yaml``."""
    made = _Generator(by_alias=True, ref_template="#/$defs/{model}")
    models: list[type[Keys]] = [WorkflowKeys, SourcesKeys, CategoriesKeys, MessagesKeys]
    references, defs = made.generate_definitions(
        [(model, "validation", model.__pydantic_core_schema__) for model in models]
    )
    workflow, sources, categories, messages = (references[model, "validation"] for model in models)
    return {
        "$schema": DIALECT,
        "title": f"The language {API_VERSION}",
        "description": "A workflow of calibrations, or the run sources, categories or messages of a folder of them.",
        "type": "object",
        "if": {"required": ["sources"]},
        "then": sources,
        "else": {
            "if": {"required": ["categories"]},
            "then": categories,
            "else": {"if": {"required": ["channels"]}, "then": messages, "else": workflow},
        },
        "$defs": dict(sorted(defs.items())),
    }


def schema_text() -> str:
    """The schema as it is kept in a file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
