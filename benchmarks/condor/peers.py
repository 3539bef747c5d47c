"""snakemake with its HTCondor plugin, and b2luigi: installed apart, run with what their documentation says.

Both run inside the pool as the owner of the jobs, where b2luigi finds the commands that it needs. Their jobs start the
peer's own Python, hence their environments and the interpreter are visible inside. Settings differ from the defaults
only where a run would fail or wait for nothing; what they are stands in the outcome.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.condor.place import Place, Ran
from tests.cache import cache_folder

INSTALL_SECONDS = 900

SNAKEFILE = """\
rule all:
    input: expand("out/{{i}}.txt", i=range({count}))
rule one:
    output: "out/{{i}}.txt"
    resources: mem_mb=100, disk_mb=10, getenv="PATH"
    shell: "echo {{wildcards.i}} > {{output}}"
"""

FLOW = """\
import b2luigi

class One(b2luigi.Task):
    number = b2luigi.IntParameter()

    def output(self):
        yield self.add_to_output("out.txt")

    def run(self):
        with open(self.get_output_file_name("out.txt"), "w") as file:
            file.write(f"{{self.number}}\\n")

class All(b2luigi.WrapperTask):
    def requires(self):
        for number in range({count}):
            yield One(number=number)

if __name__ == "__main__":
    b2luigi.set_setting("result_dir", "results")
    b2luigi.set_setting("batch_system", "htcondor")
    b2luigi.set_setting("batch_status_cache_ttl", {ttl})
    b2luigi.set_setting("htcondor_settings", {{"request_memory": "100 MB", "request_disk": "10 MB"}})
    b2luigi.process(All(), batch=True, workers={count})
"""
STATUS_SECONDS = 10
"""b2luigi's default of 120 s would let it sleep most of the time; the snakemake plugin looks as often as this."""


@dataclass(frozen=True)
class Outcome:
    """A peer's run.

    :ivar ran: ``None`` if there was none.
    :ivar note: how, or why not.
    """

    ran: Ran | None
    note: str


@dataclass(frozen=True)
class Peer:
    """How a peer is installed and run.

    :ivar products: where its products are, below the folder of the run.
    """

    name: str
    packages: tuple[str, ...]
    command: Callable[[Path, Path, int], str]
    products: str
    note: str

    @property
    def environment(self) -> Path:
        """Where it is installed, apart from all others."""
        return peers_folder() / self.name

    def install(self) -> str:
        """Install it if it is not; why that failed, or nothing."""
        done = self.environment / ".installed"
        wanted = " ".join(self.packages)
        if done.exists() and done.read_text() == wanted:
            return ""
        pip = [str(self.environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        for command in ([sys.executable, "-m", "venv", "--clear", str(self.environment)], [*pip, *self.packages]):
            try:
                ran = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS)
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"cannot be installed: {error}"
            if ran.returncode:
                return f"cannot be installed: {(ran.stderr.strip().splitlines() or ['nothing said'])[-1]}"
        done.write_text(wanted)
        return ""

    def run(self, place: Place, count: int) -> Outcome:
        """Run so many jobs."""
        if failed := self.install():
            return Outcome(None, failed)
        if why := not_visible():
            return Outcome(None, why)
        folder = place.new(self.name)
        line = self.command(self.environment, folder, count)
        ran = place.inside(f"exec {line}", folder, folder / "said.log")
        made = sum(1 for _ in folder.glob(self.products))
        if ran.code or made != count:
            said = (folder / "said.log").read_text(errors="replace").strip().splitlines()[-1:]
            return Outcome(None, f"made {made} of {count} products, exit code {ran.code}: {' '.join(said)}"[:400])
        return Outcome(ran, f"{', '.join(self.packages)}; {self.note}")


def _snakemake(environment: Path, folder: Path, count: int) -> str:
    (folder / "Snakefile").write_text(SNAKEFILE.format(count=count))
    options = f"--executor htcondor --jobs {count} --htcondor-jobdir {folder / 'logs'} --latency-wait 60"
    return f"{environment / 'bin' / 'snakemake'} {options}"


def _b2luigi(environment: Path, folder: Path, count: int) -> str:
    (folder / "flow.py").write_text(FLOW.format(count=count, ttl=STATUS_SECONDS))
    return f"{environment / 'bin' / 'python'} flow.py"


PEERS = (
    Peer(
        "snakemake",
        ("snakemake==9.27.1", "snakemake-executor-plugin-htcondor==0.3.0"),
        _snakemake,
        "out/*.txt",
        "all jobs in the queue at once",
    ),
    Peer(
        "b2luigi",
        ("b2luigi==1.3.0",),
        _b2luigi,
        "results/*/out.txt",
        f"all jobs in the queue at once, states asked every {STATUS_SECONDS} s (default 120 s)",
    ),
)


def peers_folder() -> Path:
    """Where the peers are installed, outside the repository."""
    return cache_folder() / "peers"


def visible() -> tuple[Path, ...]:
    """What the jobs of the peers must see: the environments, and the interpreter that they link to."""
    peers_folder().mkdir(parents=True, exist_ok=True)
    return (peers_folder(),) if not_visible() else (peers_folder(), _interpreter())


def not_visible() -> str:
    """Why the interpreter cannot be shown inside the pool, or nothing."""
    if _interpreter() in (Path("/usr"), Path("/")):
        return f"its jobs need the interpreter {sys.executable}, of the system itself, which the pool has not"
    return ""


def _interpreter() -> Path:
    return Path(os.path.realpath(sys.base_prefix))
