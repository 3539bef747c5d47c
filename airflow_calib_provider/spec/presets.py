"""Presets: the params of one detector model or another, under a name by which they are chosen together.

All presets set the same params, so that whichever is chosen, templates find what they name, and of the same type. Which
one holds says ``preset`` in the file, a campaign (``--set preset=…``), or a DAG run.
"""

from __future__ import annotations

from collections.abc import Mapping

from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.spec.language import PRESET
from airflow_calib_provider.spec.param_values import as_declared
from airflow_calib_provider.spec.problems import Problems, nearest
from airflow_calib_provider.spec.task_keys import WorkflowKeys
from airflow_calib_provider.spec.written import Read

Values = dict[str, object]


def presets_of(keys: WorkflowKeys) -> dict[str, Values]:
    """The params that each preset sets."""
    return {name: _plain(values) for name, values in keys.presets.items()}


def params_of(keys: WorkflowKeys) -> Values:
    """The params as the file says: its own, and those of the preset; while that is not known, of the first one."""
    presets = presets_of(keys)
    chosen = presets.get(keys.preset or "") or next(iter(presets.values()), {})
    return {**_plain(keys.params), **chosen}


def check_presets(written: Read[WorkflowKeys], problems: Problems) -> None:
    """Tell what is wrong with the presets of a file: all of them must set what the first one sets, and no other."""
    keys = written.keys
    if keys is None or written.is_wrong("presets"):
        return
    presets = presets_of(keys)
    _check_choice(written, keys.preset, tuple(presets), problems)
    if not presets:
        return
    first, wanted = next(iter(presets.items()))
    for name in wanted:
        if name in keys.params:
            said = f"{name!r} stands in params, and the presets set it too"
            problems.add(said, written.key_at("params", name), expected="one of both")
    for name in dict.fromkeys([*keys.params, *(name for values in presets.values() for name in values)]):
        if name == PRESET:
            where = ("params", name) if name in keys.params else ("presets", _first_with(presets, name), name)
            problems.add(f"a parameter is called {name!r}", written.key_at(*where), expected="another name",
                         hint="by this name the preset is chosen")  # fmt: skip
    for preset, values in presets.items():
        if preset != first:
            _check_one(written, preset, values, first, wanted, problems)


def _check_choice(written: Read[WorkflowKeys], chosen: str | None, names: tuple[str, ...], problems: Problems) -> None:
    if written.is_wrong(PRESET):
        return
    if not names:
        if chosen is not None:
            problems.add(f"preset is {chosen!r}, and there are no presets", written.at(PRESET), expected="presets")
    elif chosen is None:
        said = "the key 'preset' is missing in the workflow, which has presets"
        problems.add(said, written.key_at("presets"), expected=one_of(names))
    elif chosen not in names:
        said = f"preset is {chosen!r}, which is none of the presets"
        problems.add(said, written.at(PRESET), expected=one_of(names), hint=lambda: nearest(chosen, names))


def _check_one(
    written: Read[WorkflowKeys], preset: str, values: Values, first: str, wanted: Values, problems: Problems
) -> None:
    missing = [name for name in wanted if name not in values]
    extra = [name for name in values if name not in wanted]
    if missing:
        said = f"the preset {preset!r} does not set {', '.join(missing)}, as {first!r} does"
        problems.add(said, written.key_at("presets", preset), expected="the same parameters in all presets")
    for name in extra:
        said = f"the preset {preset!r} sets {name!r}, which {first!r} does not"
        place = written.key_at("presets", preset, name)
        problems.add(said, place, expected=one_of(missing or wanted), hint=lambda name=name: nearest(name, wanted))  # type: ignore[misc]
    for name, value in values.items():
        if name not in wanted or written.is_wrong("presets", preset, name):
            continue
        try:
            as_declared(wanted[name], value)
        except ValueError as error:
            place_of = written.at("presets", preset, name)
            problems.add(f"{name} of the preset {preset!r}: {error}", place_of)


def _first_with(presets: Mapping[str, Values], name: str) -> str:
    return next(preset for preset, values in presets.items() if name in values)


def _plain(values: Mapping[str, object]) -> Values:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
