"""The HTCondor backend, as specs, connections and people know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_calib_provider.spec.kinds import BackendKind, ConnectionType, Integration, form_field

if TYPE_CHECKING:
    from airflow_calib_provider.backends.condor.keys import CondorKeys

CONNECTION = ConnectionType(
    name="calib_condor",
    settings="airflow_calib_provider.hooks.condor:condor_settings",
    hook="airflow_calib_provider.hooks.condor.CondorHook",
    title="HTCondor pool (calibration)",
    integration=Integration("HTCondor", "https://htcondor.readthedocs.io/"),
    behaviour={
        "hidden-fields": ["login", "schema", "extra"],
        "relabeling": {"host": "Collector", "port": "Collector's port", "password": "Token"},
        "placeholders": {"host": "collector.example.org; empty: as this machine is configured", "port": "9618"},
    },
    fields={
        "schedd": form_field("Schedd", "string", "Its name, as in condor_status -schedd; empty: this machine's."),
        "authentication": form_field(
            "Authentication", "string", "IDTOKENS, SCITOKENS, FS, ...; several with commas, in order of preference."
        ),
        "token_file": form_field("Token file", "string", "Instead of a token: a file on every Airflow machine."),
        "transfer": form_field("HTCondor transfers files", "boolean", "Else jobs see the same file system."),
        "event_log": form_field(
            "Event log is shared", "boolean", "Switch off where the schedd's files cannot be seen.", True
        ),
        "timeout": form_field("Time-out of a call (s)", "number", "20 by default."),
        "query_interval": form_field("Seconds between queries", "number", "Without an event log; 15 by default."),
        "defaults": form_field("Defaults of jobs", "object", "What jobs.condor in a spec may say, for all tasks."),
        "configuration": form_field("HTCondor configuration", "object", "Further settings of the client, by name."),
    },
)
"""Its fields are those of :class:`~airflow_calib_provider.backends.condor.settings.CondorSettings`."""


class CondorKind(BackendKind):
    """Jobs on an HTCondor pool."""

    name = "condor"
    loader = "airflow_calib_provider.backends.condor.backend:CondorBackend"
    connection = CONNECTION
    operators = ("airflow_calib_provider.operators.condor",)
    release = "`condor_release`"

    @property
    def keys(self) -> type[CondorKeys]:
        """The model of the block ``condor``."""
        from airflow_calib_provider.backends.condor.keys import CondorKeys

        return CondorKeys

    def merged(self, defaults: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
        """Key by key, as for any backend; a mapping that is empty then is left out."""
        from airflow_calib_provider.backends.condor.names import over

        return {name: value for name, value in over(defaults, own).items() if value != {}}

    def reserves(self, block: Mapping[str, object]) -> str:
        """With a shared file system, or through ``condor_chirp``, which a machine has and a container has not."""
        both = block.get("transfer") and block.get("container_image")
        return "in a container where HTCondor transfers files" if both else ""

    def brings(self, block: Mapping[str, object]) -> frozenset[str]:
        """What HTCondor's own submit commands transfer, and renew while a job runs."""
        from airflow_calib_provider.backends.condor.names import CREDENTIALS, named

        commands = {name.lower() for name in named(block, "commands")}
        return frozenset(kind for kind, names in CREDENTIALS.items() if not commands.isdisjoint(names))


KIND = CondorKind()
