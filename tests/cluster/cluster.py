"""A real Kubernetes of one node, on this machine alone, in namespaces of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from tests import guard
from tests.cache import UnavailableError, cache_folder, locked
from tests.cluster import groups, node
from tests.cluster.api import CORE, Api, until
from tests.cluster.building import Programs, programs
from tests.cluster.images import PLAIN, SHELL, archive, program_folder, shell_folder
from tests.influx.server import free_port

START_SECONDS = 120.0
TOOL_SECONDS = 60.0
CONTAINERS = ("ctr", "--address", node.SOCKET, "--namespace", "k8s.io")
SHIM = "containerd-shim-runc-v2"


def clusters_folder() -> Path:
    """Where the folders of the running clusters are."""
    return cache_folder() / "clusters"


class Cluster(Api):
    """A cluster: a context manager, or :meth:`start` and :meth:`stop`.

    Its processes are called etcd, containerd, apiserver, controller-manager, scheduler and kubelet.

    Args:
        name: for one that is found again.
        flags: more of them, for each process: ``{"controller-manager": ["--node-monitor-grace-period", "8s"]}``.
        counted: whether each request is written down, for :meth:`requests`.
    """

    def __init__(self, name: str = "", flags: dict[str, list[str]] | None = None, *, counted: bool = False) -> None:
        super().__init__(Path())
        self.name, self.flags = name, {name: list(more) for name, more in (flags or {}).items()}
        if counted:
            self.flags.setdefault("apiserver", []).extend(node.AUDIT_FLAGS)
        self.folder = Path()
        self.guard = self.init = 0
        self._found: Programs | None = None

    # --- Life

    def start(self, owner: int | None = None) -> Self:
        """Start it and wait until its node is ready (6 s).

        Args:
            owner: the process with whose end it ends; by default this one; 0 for none.

        Raises:
            UnavailableError: it cannot be had here.
        """
        self._found = programs()
        if self.name:
            end_unfinished(clusters_folder() / self.name)
        remove_leftovers()
        self._prepare()
        owner = os.getpid() if owner is None else owner
        started = subprocess.Popen(
            [sys.executable, "-I", guard.__file__, str(self.folder), str(owner)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "guard.log").open("w"),
            start_new_session=True,
        )
        self.guard = started.pid
        try:
            until(lambda: started.poll() is not None or (self.folder / "init.pid").exists(), what="the node")
            if started.poll() is not None:
                raise UnavailableError(f"cannot start a Kubernetes cluster: {self._last_words('../init', '../guard')}")
            self.init = int((self.folder / "init.pid").read_text())
            self._start_all()
            record = {"name": self.name, "flags": self.flags, "guard": self.guard, "init": self.init}
            (self.folder / "cluster.json").write_text(json.dumps(record))
        except BaseException as error:
            said = self._last_words(*node.COMPONENTS) if isinstance(error, TimeoutError) else ""
            self.stop()
            if said:
                raise UnavailableError(f"cannot start a Kubernetes cluster: {error}: {said}") from error
            raise
        return self

    @classmethod
    def attach(cls, folder: Path) -> Self:
        """The running cluster that another process started.

        Raises:
            FileNotFoundError: none runs there.
        """
        if not guard.alive(folder) or not (folder / "cluster.json").exists():
            raise FileNotFoundError(f"no cluster runs in {folder}")
        record = json.loads((folder / "cluster.json").read_text())
        found = cls(record["name"], record["flags"])
        found.folder, found.guard, found.init = folder, record["guard"], record["init"]
        found.kubeconfig = folder / "clients" / "admin.json"
        return found

    def stop(self) -> None:
        """End it: no process, no mount and no network is left. Its logs are kept as ``kubernetes-log`` in the cache."""
        if not self.guard:
            return
        with suppress(ProcessLookupError):
            os.kill(self.guard, signal.SIGTERM)
        with suppress(ChildProcessError):
            os.waitpid(self.guard, 0)
        until(lambda: not guard.alive(self.folder), what="the end of the cluster")
        remove(self.folder)
        self.guard = self.init = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- Images, requests

    def load(self, name: str, folder: Path, command: Sequence[str]) -> None:
        """Make an image of a folder, for pods with ``imagePullPolicy: Never`` or ``IfNotPresent``."""
        self.tool(*CONTAINERS, "images", "import", "-", given=archive(name, folder, command))

    def requests(self) -> Counter[str]:
        """The requests so far by each user's name, if they are counted."""
        with (self.folder / "log" / "audit.log").open() as lines:
            return Counter(json.loads(line)["user"]["username"] for line in lines if line.endswith("\n"))

    # --- Faults

    def processes(self, name: str) -> list[int]:
        """The process numbers of one of the node's processes, or of the shims, which stand over pods."""
        try:
            namespace = os.readlink(f"/proc/{self.init}/ns/pid")
        except OSError:
            return []
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(entry / "ns" / "pid") == namespace and _is(name, entry):
                    found.append(int(entry.name))
        return found

    def process(self, name: str) -> int:
        """The process number of one of the node's processes.

        Raises:
            ProcessLookupError: it does not run.
        """
        for number in self.processes(name):
            return number
        raise ProcessLookupError(f"{name} does not run")

    def kill(self, name: str) -> int:
        """Kill -9 one of the node's processes; its old number is returned."""
        number = self.process(name)
        os.kill(number, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{number}").exists(), what=f"the end of {name}")
        return number

    def launch(self, name: str) -> None:
        """Start one of the node's processes, without waiting for it."""
        self.tool("sh", str(self.folder / "run" / name))
        until(lambda: self._kept(name), what=f"the start of {name}")

    def restart(self, name: str) -> None:
        """Kill -9 one of the node's processes and start it again; all answers then."""
        self.kill(name)
        self.launch(name)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until everything that does not run is started and all of it answers."""
        for name in node.COMPONENTS:
            # What gave up a moment ago is about to be started again: two of a kind would each make all pods.
            if not self._kept(name):
                self.launch(name)
        until(self.answers, START_SECONDS, "the API server")
        until(self._node_ready, START_SECONDS, "the node")

    def stop_silently(self, name: str) -> None:
        """Stop a process with SIGSTOP: it accepts connections and stays silent."""
        number = self.process(name)
        os.kill(number, signal.SIGSTOP)
        # Its other threads go on until the one that takes the signal has got a CPU.
        until(lambda: _stopped(number), what=f"the stop of {name}")

    def resume(self, name: str) -> None:
        """Let a process go on that was stopped silently."""
        for number in self.processes(name):
            os.kill(number, signal.SIGCONT)

    def tool(self, *command: str, given: bytes | None = None) -> str:
        """Run a command within the node, and give what it says.

        Raises:
            RuntimeError: it failed; the text holds what it said.
        """
        inside = ["nsenter", "--target", str(self.init), "--mount", "--pid", "--", *command]
        environment = {**os.environ, **self._programs.environment}
        # Not a pipe for what it starts: that goes on, and would keep it open.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                inside, input=given or b"", stdout=said, stderr=said, timeout=TOOL_SECONDS, env=environment
            )
            said.seek(0)
            text = said.read().decode(errors="replace")
        if done.returncode:
            raise RuntimeError(f"{command[0]} ended with {done.returncode}: {text.strip()}")
        return text

    # --- Inner

    def _kept(self, name: str) -> bool:
        """Whether a process runs, or will be started again."""
        return bool(self.processes(name) or self.processes(node.keeper(name)))

    @property
    def _programs(self) -> Programs:
        if self._found is None:
            self._found = programs()
        return self._found

    def _prepare(self) -> None:
        clusters_folder().mkdir(parents=True, exist_ok=True)
        if self.name:
            self.folder = clusters_folder() / self.name
            self.folder.mkdir()
        else:
            self.folder = Path(tempfile.mkdtemp(prefix="cluster-", dir=clusters_folder()))
        self.folder.chmod(0o755)
        self._client = None
        ports = node.Ports(*(free_port() for _ in range(4)))
        groups.create(groups.name(self.folder))
        node.write(self.folder, self._programs, ports, groups.name(self.folder), self.flags)
        (self.folder / "clients").mkdir(mode=0o700)
        self.kubeconfig = self.folder / "clients" / "admin.json"
        admin = node.tokens(self.folder)["admin"]
        settings = node.client(ports, admin, self.folder / "pki" / "apiserver.crt")
        self.kubeconfig.touch(mode=0o600)
        self.kubeconfig.write_text(json.dumps(settings))
        (self.folder / "ports.json").write_text(json.dumps(asdict(ports)))

    def _start_all(self) -> None:
        for name in ("etcd", "containerd", "apiserver"):
            self.launch(name)
        until(self._runtime_answers, START_SECONDS, "containerd")
        for name, fill, command in (
            (node.SANDBOX, program_folder("pause"), "/pause"),
            (PLAIN, program_folder("plain"), "/plain"),
            (SHELL, shell_folder, "sh"),
        ):
            with tempfile.TemporaryDirectory() as folder:
                fill(Path(folder), self._programs)
                self.load(name, Path(folder), [command])
        certificate = self.folder / "pki" / "apiserver.key"  # written after the certificate
        until(certificate.exists, START_SECONDS, "the API server's certificate")
        until(self.answers, START_SECONDS, "the API server")
        self.wait_ready()

    def _runtime_answers(self) -> bool:
        with suppress(RuntimeError):
            self.tool(*CONTAINERS, "version")
            return True
        return False

    def _node_ready(self) -> bool:
        conditions: list[dict[str, Any]] = [
            one for found in self.items(f"{CORE}/nodes") for one in found.get("status", {}).get("conditions", [])
        ]
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _last_words(self, *names: str) -> str:
        """The last line of the first of these that has ended."""
        for name in names:
            log = self.folder / "log" / f"{name}.log"
            if not self.processes(name) and log.exists() and (text := log.read_text(errors="replace").strip()):
                return f"{Path(name).name}: {text.splitlines()[-1]}"
        return "nothing was said"


def _stopped(number: int) -> bool:
    states = [one.read_text().rpartition(")")[2].split()[0] for one in Path(f"/proc/{number}/task").glob("*/stat")]
    return set(states) == {"T"}


def _is(name: str, entry: Path) -> bool:
    program, *arguments = (entry / "cmdline").read_text(errors="replace").split("\0")[:-1] or [""]
    if arguments[-1:] == [name]:
        return name.startswith(node.keeper(""))
    if Path(program).name == "kube":
        return arguments[:1] == [name]
    return Path(program).name == (SHIM if name == "shim" else name)


def remove(folder: Path) -> None:
    """Remove a dead cluster's folder and control groups, but keep its logs as the last ones."""
    groups.remove(groups.name(folder))
    last = cache_folder() / "kubernetes-log"
    shutil.rmtree(last, ignore_errors=True)
    with suppress(OSError):
        (folder / "log").rename(last)
    shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers() -> None:
    """Remove what clusters left that were killed."""
    for folder in guard.leftovers(clusters_folder()):
        remove(folder)


# --- One for all processes of a run


def run_owner() -> int:
    """The process with whose end the shared cluster ends: the one that started all others of this run of tests."""
    if named := os.environ.get("CALIB_TESTS_OWNER"):
        return int(named)
    return os.getppid() if os.environ.get("PYTEST_XDIST_WORKER") else os.getpid()


def shared_name(owner: int) -> str:
    """The name of the cluster of a run; process numbers come again, but not begun at the same moment."""
    begun = Path(f"/proc/{owner}/stat").read_text().rpartition(")")[2].split()[19]
    return f"run-{owner}-{begun}"


def shared() -> Cluster:
    """The cluster of this run of tests, started by the first process that wants it.

    Raises:
        UnavailableError: it cannot be had here.
    """
    owner = run_owner()
    name = shared_name(owner)
    clusters_folder().mkdir(parents=True, exist_ok=True)
    with locked(clusters_folder().with_name(f"{name}.lock"), "waiting for another process that starts a cluster"):
        with suppress(FileNotFoundError):
            return Cluster.attach(clusters_folder() / name)
        return Cluster(name).start(owner)


def end_unfinished(folder: Path) -> None:
    """End the guard of a cluster whose start was killed; the folder is taken away as any other leftover."""
    if (folder / "cluster.json").exists():
        return
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_text(errors="replace").split("\0")
            if guard.__file__ in command and str(folder) in command:
                os.kill(int(process.name), signal.SIGTERM)
    until(lambda: not guard.alive(folder), what="the end of a cluster whose start was killed")


def stop_shared() -> None:
    """Stop the cluster of the run that this process has started, if there is one."""
    name = shared_name(os.getpid())
    with suppress(FileNotFoundError):
        Cluster.attach(clusters_folder() / name).stop()
    clusters_folder().with_name(f"{name}.lock").unlink(missing_ok=True)
