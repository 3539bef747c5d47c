"""Names of HTCondor's submit commands and job attributes that a spec cannot set: this package or HTCondor does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

_HINTS = {
    "executable": "jobs.command", "arguments": "jobs.command", "cmd": "jobs.command", "args": "jobs.command",
    "environment": "jobs.environment", "env": "jobs.environment", "getenv": "jobs.environment",
    "request_cpus": "jobs.resources.cpus", "request_memory": "jobs.resources.memory",
    "request_disk": "jobs.resources.disk", "request_gpus": "jobs.resources.gpus",
    "transfer_input_files": "condor.files", "should_transfer_files": "condor.transfer",
    "container_image": "condor.container_image", "docker_image": "condor.container_image",
    "requirements": "condor.requirements", "accounting_group": "condor.accounting_group",
    "accounting_group_user": "condor.accounting_group_user", "priority": "condor.priority", "prio": "condor.priority",
    "max_materialize": "condor.max_materialize", "max_idle": "condor.max_idle", "max_retries": "jobs.retries",
    "retry_request_memory": "failures",
    "allowed_execute_duration": "jobs.timeout", "allowed_job_duration": "jobs.timeout",
}  # fmt: skip

_COMMANDS = (
    "universe", "executable", "cmd", "arguments", "args", "environment", "env", "input", "in", "stdin", "output",
    "out", "stdout", "error", "err", "stderr", "log", "user_log", "userlog", "initialdir", "initial_dir", "iwd",
    "job_iwd", "queue", "transfer_*", "should_transfer_files", "when_to_transfer_output", "container_image",
    "docker_image", "request_cpus", "request_cpu", "request_memory", "request_disk", "request_gpus", "request_gpu",
    "requirements", "accounting_group*", "max_retries", "retry_until", "success_exit_code", "on_exit_*", "periodic_*",
    "retry_request_*", "checkpoint_exit_code", "allowed_*_duration", "max_materialize", "max_idle", "batch_name",
    "leave_in_queue", "hold", "noop_job*", "getenv",
    "notification", "notify_user", "priority", "prio", "job_machine_attrs*", "hold_kill_sig", "my",
)  # fmt: skip

_KNOWN = (
    "allow_startup_script", "append_files", "buffer_*", "compress_files", "concurrency_limits",
    "concurrency_limits_expr", "container_*", "coresize", "core_size", "cron_*", "cuda_version", "deferral_*",
    "description", "docker_*", "dont_encrypt_*", "email_attributes", "encrypt_*", "erase_output_and_error_on_restart",
    "file_remaps", "gpus_*", "image_size", "job_*", "keep_claim_idle", "kill_sig", "kill_sig_timeout", "load_profile",
    "local_files", "log_xml", "manifest*", "match_list_length", "max_job_retirement_time", "max_transfer_*_mb",
    "next_job_start_delay", "nice_user", "node_count", "output_destination", "preserve_relative_paths", "project_name",
    "rank", "preferences", "remote_initialdir", "request_*", "require_gpus", "run_as_owner",
    "skip_filechecks", "ssh_*", "stream_*", "submit_event_*", "tmp_dir", "tool_daemon_*", "ulog_execute_attrs",
    "undesired_*", "use_oauth_services", "*_oauth_permissions*", "*_oauth_resource*", "use_scitokens",
    "scitokens_file", "use_x509userproxy", "x509userproxy", "want_graceful_removal", "want_io_proxy",
    "want_remote_io", "want_remote_syscalls", "job_max_vacate_time", "ulog_*", "job_ad_information_attrs",
)  # fmt: skip
"""Submit commands of the manual of condor_submit that a spec may give. The bindings take a misspelt one in silence."""

CREDENTIALS = {
    "proxy": frozenset({"x509userproxy", "use_x509userproxy"}),
    "token": frozenset({"use_scitokens", "scitokens_file"}),
}
"""Kind of credential → the submit commands by which HTCondor gives it to a job, with the usual variable."""

_ATTRIBUTES = (
    "owner", "user", "osuser", "cmd", "args", "arguments", "env", "environment", "jobstatus", "lastjobstatus",
    "clusterid", "procid", "globaljobid", "requirements", "request*", "in", "out", "err", "iwd", "userlog", "qdate",
    "jobuniverse", "jobprio", "jobbatchname", "acctgroup*", "accountinggroup", "hold*", "lasthold*", "release*",
    "remove*", "exit*", "onexit*", "periodic*", "leavejobinqueue", "transfer*", "shouldtransferfiles",
    "whentotransferoutput", "container*", "dockerimage", "wantcontainer", "jobmaterialize*", "maxjobretries",
    "numjobstarts", "numshadowstarts", "enteredcurrentstatus", "mytype", "targettype", "myaddress",
    # What is read of an ad to tell what became of its job.
    "remotehost", "lastremotehost", "jobcurrentstartdate", "completiondate", "memoryusage", "residentsetsize*",
    "lastrejmatch*", "numjobmatches", "jobruncount", "jobfactory*", "totalsubmitprocs",
)  # fmt: skip


def command_is_ours(name: str) -> bool:
    """Whether a submit command is one that this package sets itself; HTCondor's names know no case."""
    return any(fnmatchcase(name.lower(), pattern) for pattern in _COMMANDS)


def command_is_known(name: str) -> bool:
    """Whether HTCondor has such a submit command; ``request_<name>`` asks for any resource that a site defines."""
    return any(fnmatchcase(name.lower(), pattern) for pattern in _KNOWN)


def nearest_command(name: str) -> str:
    """A submit command that may be meant, as a hint."""
    whole = [word for word in (*_KNOWN, *_COMMANDS) if "*" not in word]
    found = get_close_matches(name.lower(), whole, 1)
    return f"did you mean {found[0]!r}?" if found else ""


def hint_for(name: str) -> str:
    """Where a spec says what the submit command would have said."""
    known = _HINTS.get(name.lower(), "")
    return f"say it with {known}" if known else ""


def attribute_is_taken(name: str) -> bool:
    """Whether a job attribute is HTCondor's own, or one of ours."""
    return name.lower().startswith("calib") or any(fnmatchcase(name.lower(), pattern) for pattern in _ATTRIBUTES)


def named(block: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The values of a block ``condor`` by name: its attributes, or its commands; empty: it has none."""
    values = block.get(name)
    return values if isinstance(values, Mapping) else {}


def over(defaults: Mapping[str, object], own: Mapping[str, object]) -> dict[str, object]:
    """One block ``condor`` over another: key by key, attributes and commands name by name."""
    both = {**defaults, **own}
    for block in ("attributes", "commands"):
        mine, theirs = named(own, block), named(defaults, block)
        # HTCondor's names know no case: Project and project are one.
        stated = {name.lower() for name in mine}
        both[block] = {**{name: value for name, value in theirs.items() if name.lower() not in stated}, **mine}
    return both
