"""A lock on a product of another workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, JsonValue

from airflow_calib_provider.domain.keys import Keys, Words
from airflow_calib_provider.domain.locks.base import BESIDE, LockKind, missing
from airflow_calib_provider.domain.scalars import Name


class ProductLockKeys(Keys):
    """The block ``product``."""

    says: ClassVar[str] = "open when a product of another workflow is there for every run of the group"
    absent: ClassVar[Mapping[str, str]] = BESIDE

    workflow: Annotated[
        Name | None,
        Words(missing="the workflow that makes it"),
        Field(description="the workflow that makes it; it may be in another folder"),
    ] = None
    task: Annotated[Name | None, Words(missing="the task that makes it"), Field(description="its task")] = None
    product: Annotated[Name | None, Words(missing="the product"), Field(description="the product's name")] = None
    campaign: Annotated[
        Name | None,
        Words(default="the group's own"),
        Field(description="the campaign in which it is made, such as `prompt`"),
    ] = None


class ProductLockKind(LockKind):
    """Open when a product of another workflow is there for every run of the group."""

    name = "product"
    keys = ProductLockKeys
    example = "{product: {workflow: …, task: …, product: …}}"
    once = "each product once"
    loader = "airflow_calib_provider.ledger.locks.product:LOCK"
    release = "the product, of the missing runs"
    may_shut = True

    def on(self, keys: ProductLockKeys) -> str:
        """The product."""
        return f"the product {keys.workflow}.{keys.task}.{keys.product} of {keys.campaign or 'the campaign'}"

    def row(self, keys: ProductLockKeys) -> tuple[str, dict[str, JsonValue]]:
        """What is skipped there is skipped here."""
        found: dict[str, Any] = {"workflow": keys.workflow, "task": keys.task, "product": keys.product}
        return self.name, {**found, **({"campaign": keys.campaign} if keys.campaign else {})}

    def text(self, reason: Mapping[str, Any]) -> str:
        """How many runs have it, and which have not."""
        return f"{reason['done']} of {reason['total']} runs have {self.what(reason)}; missing {missing(reason)}"


KIND = ProductLockKind()
