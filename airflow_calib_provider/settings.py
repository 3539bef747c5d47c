"""Where an installation keeps its files, and the few numbers that an operator of it may change.

Everything is read from the environment at the moment of use, so that tests and several installations on one host do
not meet.
"""

from __future__ import annotations

import math
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airflow_calib_provider.errors import SettingError

_INSTALLATION = "installation"


@dataclass(frozen=True)
class Setting:
    """A number that an operator may change, by the environment variable ``CALIB_<name>``.

    :ivar default: ``None``: the number of this host's CPUs.
    :ivar least: the smallest value that makes sense.
    """

    name: str
    default: float | None
    meaning: str
    least: float = 0.0

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"CALIB_{self.name}"

    @property
    def stated(self) -> str:
        """The default, for people."""
        return "number of cores" if self.default is None else f"{self.default:g}"


SETTINGS = (
    Setting("MAX_OPEN", 100, "DAG runs per DAG that may be at work", least=1),
    Setting("WINDOW", 20, "DAG runs per DAG and campaign, besides those, that are open only to show that they wait"),
    Setting(
        "STARTING",
        2,
        "DAG runs per DAG, of other campaigns than `prompt`, for which Airflow is to start a task at a time",
        least=1,
    ),
    Setting(
        "LOCAL_SLOTS",
        None,
        "CPUs that jobs of the local backend take at once on a host; reserved workers leave one",
        least=1,
    ),
    Setting("LOCAL_GRACE", 5, "seconds between SIGTERM and SIGKILL when a local job is removed or times out"),
    Setting("RETRY_DELAY", 10, "seconds before a job's second attempt; doubled each time"),
    Setting("AIRFLOW_RETRY_DELAY", 30, "seconds before Airflow tries a crashed task again"),
    Setting("POLL_INTERVAL", 5, "seconds between two looks at everything that waits", least=0.01),
    Setting("WATCH_INTERVAL", 2, "seconds between two looks at running job sets", least=0.01),
    Setting(
        "CONDOR_VERIFY_INTERVAL",
        60,
        "seconds without news in an event log after which a schedd is asked whether all is well",
    ),
    Setting("KUBERNETES_INTERVAL", 5, "seconds between two looks at all Jobs of a cluster", least=0.1),
    Setting("REPORT_INTERVAL", 30, "seconds between two looks at the reports of a generation's running jobs"),
    Setting("MIRROR_INTERVAL", 1, "seconds between two looks of the mirror for new events", least=0.01),
    Setting(
        "MIRROR_DAG_HOURS",
        24,
        "how long a DAG run of `calib_mirror` lasts; the next begins at once",
        least=0.001,
    ),
    Setting("MIRROR_PATIENCE", 3600, "seconds for which `calib_mirror` looks for its connection before it is skipped"),
    Setting(
        "MESSAGES_DAG_MINUTES",
        10,
        "how long a DAG run of `calib_messages` lasts; the next, which begins at once, reads `messages.yaml` anew",
        least=0.01,
    ),
    Setting("SAMPLE_INTERVAL", 60, "seconds between two looks at the figures of the system"),
    Setting("OPEN_PATIENCE", 120, "seconds for which `calib_inject` asks again for a DAG run that Airflow refused"),
    Setting(
        "CODE_LIMIT",
        2000,
        "MB of a commit that are copied for the jobs made from it; of a larger one the checkout itself is used",
    ),
    Setting("INJECT_MINUTES", 5, "minutes between two runs of `calib_inject`", least=1),
)
"""All of them; the table of docs/operations.md is made of these."""

_BY_NAME = {setting.name: setting for setting in SETTINGS}


def number(name: str) -> float:
    """The value of a setting: of its environment variable, else its default.

    :raises SettingError: the variable is no number, or too small.
    """
    setting = _BY_NAME[name]
    text = os.environ.get(setting.variable, "").strip()
    if not text:
        return float(os.cpu_count() or 1) if setting.default is None else float(setting.default)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < setting.least:
        raise SettingError(
            f"{setting.variable} is {text!r}: expected a number of at least {setting.least:g}",
            f"it means: {setting.meaning}; {setting.stated} if it is not set",
        )
    return value


def folder(variable: str) -> Path | None:
    """The folder that an environment variable names; ``~`` is the home folder, as in a shell.

    :returns: ``None`` if the variable is not set, or empty.
    :raises SettingError: it is relative, so that each process would mean another folder.
    """
    text = os.environ.get(variable)
    return absolute(text, variable) if text else None


def absolute(text: str, where: str) -> Path:
    """A path that every process understands alike; ``~`` is the home folder, as in a shell.

    :param where: what names it, for the error.
    :raises SettingError: it is relative, or its home folder is not known.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        path = Path(text)
    if not path.is_absolute():
        raise SettingError(
            f"{where} is {text!r}, which is another place for each process's working directory",
            f"write the absolute path, such as {Path.cwd() / path if not text.startswith('~') else '/home/calib'}",
        )
    return path


def calib_home() -> Path:
    """Folder of everything that this package writes.

    ``CALIB_HOME``, else ``$AIRFLOW_HOME/calib``, else ``~/airflow/calib``.

    :raises SettingError: one of these variables is a relative path.
    """
    return folder("CALIB_HOME") or (folder("AIRFLOW_HOME") or Path.home() / "airflow") / "calib"


_installations: dict[Path, str] = {}
"""By :func:`calib_home`: remembered, since its file system may go away for a while."""


def known_installation() -> str | None:
    """What :func:`installation_id` made; ``None`` if nothing did, or it cannot be seen now."""
    home = calib_home()
    if home not in _installations:
        with suppress(FileNotFoundError):
            _installations[home] = (home / _INSTALLATION).read_text().strip()
    return _installations.get(home)


def installation_id() -> str:
    """What tells the jobs of this installation from those of another with the same paths: two containers, for example.

    Made once, and kept in the file ``installation`` of :func:`calib_home`.

    :raises OSError: the file cannot be written.
    """
    if known := known_installation():
        return known
    file = calib_home() / _INSTALLATION
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".installation-{uuid.uuid4().hex}")
    try:
        with part.open("w") as stream:
            stream.write(f"{uuid.uuid4()}\n")
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):  # another process was faster
            os.link(part, file)
    finally:
        part.unlink(missing_ok=True)
    return known_installation() or ""


def spool_folder() -> Path:
    """Folder of the local backend: one folder per submitted round."""
    return calib_home() / "spool"


def products_folder() -> Path:
    """Folder of accepted products: ``campaign/workflow/task/group/generation/job``."""
    return calib_home() / "products"


def code_folder() -> Path:
    """Folder of copies of commits, by the commit: what ``{{ spec.folder }}`` stands for."""
    return calib_home() / "code"


def payloads_folder() -> Path:
    """Folder of published files, named by their content."""
    return calib_home() / "payloads"
