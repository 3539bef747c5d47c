"""Words and limits of the language that its parts share."""

from __future__ import annotations

API_VERSION = "calib/v1"
SOURCES_FILE = "sources.yaml"
CATEGORIES_FILE = "categories.yaml"
MESSAGES_FILE = "messages.yaml"

MAX_JOBS = 100_000
"""Of a job set."""

CONTRACT = (
    "CALIB_CAMPAIGN", "CALIB_WORKFLOW", "CALIB_TASK", "CALIB_GROUP", "CALIB_RUNS", "CALIB_RUNS_FILE", "CALIB_JOB",
    "CALIB_ATTEMPT", "CALIB_OUT", "CALIB_REPORT", "CALIB_INPUTS",
)  # fmt: skip
"""Variables that every job is given, which nobody sets otherwise."""

OF_STEPS = ("CALIB_STEP", "CALIB_CONSTANTS", "CALIB_CONSTANTS_SHA256", "CALIB_RESULTS_FILE")
"""Those that the jobs of what iterates are given besides."""

PRESET = "preset"
"""The key, the campaign's setting and the field that choose one of the presets."""

PICTURE = "convergence.svg"
"""What an iteration leaves beside its constants."""

INJECT = "calib_inject"
"""The system DAG that records and groups runs."""

MESSAGES = "calib_messages"
"""The system DAG that tells people (rule 68)."""

BACKFILL = "calib_backfill"
"""The system DAG that collects the runs of days (rule 58)."""

BOX = "Override parameters on existing runs"
"""Of Airflow's dialog of backfills: without it what is filled in is dropped, also for new DAG runs."""

AGAIN = "Missing and Errored Runs"
"""Of the same dialog: what it must be for days that have failed."""

SAME_FORM = "Trigger again with this config"
"""Of Airflow's page of a DAG run, in the menu of the button Trigger: its form, filled in as it was."""

CORRECT = f"To correct it: on the page of this DAG run click Trigger, then {SAME_FORM!r}."
"""What comes after the mistakes of a form."""

RUNS_ASSET = "calib://runs"
"""Airflow's asset whose events run it at once (rule 59)."""

GROUP_SENSOR = "wait_for_group"
LOCKS_SUFFIX = "__and_locks"
"""Names of a DAG's own nodes beside its tasks: the sensor of its group, and the box around a task and its locks."""

CANDIDATE_SUFFIX, APPROVE_SUFFIX = ".candidate", ".approve"
"""Of the ids of Airflow's tasks that come before a publication which persons approve."""

TAKEN_TASKS = ("group", GROUP_SENSOR)
"""Names that no task may have; Airflow's UI takes the address of a task ``group`` for that of a task group."""

ALWAYS = ("number", "start", "end", "files")
"""Fields of a run that every template may use, whatever the source supplies; a time may be null."""
