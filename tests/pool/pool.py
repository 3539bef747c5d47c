"""A real HTCondor pool with two schedds, on this machine alone, in namespaces of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.cache import UnavailableError
from tests.guard import alive
from tests.pool.chroot import USER, build
from tests.pool.config import CPUS, DOMAIN, MAIN, OTHER, PLACE
from tests.pool.layout import control_group, new_folder, prepare, remove, remove_leftovers, write_private

ScheddName = Literal["main", "other"]

SCHEDDS: dict[str, str] = {"main": MAIN, "other": OTHER}
GUARD = Path(__file__).parents[1] / "guard.py"
START_SECONDS = 60.0
TOOL_SECONDS = 30.0
COMPLETE = {"Negotiator": 1, "Scheduler": 2, "Machine": 2}  # ads in the collector of a complete pool


@dataclass
class Pool:
    """A pool: a context manager, or :meth:`start` and :meth:`stop`.

    Daemons are called by their names: ``schedd``, ``schedd:other`` (the second one), ``collector``, ``negotiator``,
    ``startd``, ``shared_port``, ``master``.

    Args:
        shared: the folder that jobs and clients see under one path; by default one in the pool's own folder.
        visible: further folders that jobs may read, under the path that they have here.
        name: for a pool that is found again by hand.
        cpus: that its machine says it has.
        negotiates_as_usual: as often as HTCondor does by itself, instead of every second.
    """

    shared: Path | None = None
    visible: tuple[Path, ...] = ()
    name: str | None = None
    folder: Path = Path()
    port: int = 0
    guard: int = 0
    init: int = 0
    cpus: int = CPUS
    negotiates_as_usual: bool = False

    # --- Life

    def start(self, owner: int | None = None) -> Self:
        """Start the pool and wait until all its daemons answer (about 4 s).

        Args:
            owner: the process with whose end the pool ends; by default this one; 0 for none.

        Raises:
            UnavailableError: no pool can be had here.
        """
        root = build()
        remove_leftovers()
        self.folder = new_folder(self.name)
        self.shared = (self.shared or self.folder / "shared").absolute()
        self.shared.mkdir(parents=True, exist_ok=True)
        seen = [path.absolute() for path in self.visible]
        usual = self.negotiates_as_usual
        self.port = prepare(self.folder, root, self.shared, seen, self.cpus, negotiates_as_usual=usual)
        owner = os.getpid() if owner is None else owner
        guard = subprocess.Popen(
            [sys.executable, "-I", str(GUARD), str(self.folder), str(owner)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "guard.log").open("w"),
            start_new_session=True,
        )
        self.guard = guard.pid
        try:
            self._until(lambda: guard.poll() is not None or self._complete(), START_SECONDS)
            if not self._complete():
                raise UnavailableError(f"cannot start an HTCondor pool: {self._last_words()}")
            self.init = int((self.folder / "init.pid").read_text())
            record = {"shared": str(self.shared), "port": self.port, "guard": self.guard, "init": self.init}
            (self.folder / "pool.json").write_text(json.dumps(record))
        except BaseException:
            self.stop()
            raise
        return self

    @classmethod
    def attach(cls, folder: Path) -> Self:
        """The running pool that another process started.

        Raises:
            FileNotFoundError: none runs there.
        """
        if not alive(folder):
            raise FileNotFoundError(f"no pool runs in {folder}")
        record = json.loads((folder / "pool.json").read_text())
        return cls(Path(record["shared"]), (), folder.name, folder, record["port"], record["guard"], record["init"])

    def stop(self) -> None:
        """End the pool: no process and no mount is left. Its log is kept as ``condor-log`` in the cache."""
        if not self.guard:
            return
        with suppress(ProcessLookupError):
            os.kill(self.guard, signal.SIGTERM)
        with suppress(ChildProcessError):
            os.waitpid(self.guard, 0)
        self._until(lambda: not alive(self.folder), START_SECONDS)
        remove(self.folder)
        self.guard = self.init = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def memory_hold(self) -> tuple[int, int]:
        """Hold code and subcode of a job that took more memory than its slot has.

        (34, 102) where the kernel sees to it, by control groups: at once; else (21, 102), by the startd: after 2 s.
        """
        return (34, 102) if control_group(self.folder) in (self.folder / "condor_config").read_text() else (21, 102)

    # --- Clients

    def connection(self, schedd: ScheddName = "main") -> dict[str, str]:
        """What a client has to know: collector, schedd, token file, authentication."""
        return {
            "collector": f"127.0.0.1:{self.port}",
            "schedd": SCHEDDS[schedd],
            "token_file": str(self.folder / "token" / USER),
            "authentication": "IDTOKENS",
        }

    def client_environment(self, schedd: ScheddName = "main", token_folder: Path | None = None) -> dict[str, str]:
        """The environment with which HTCondor's tools and bindings outside reach this pool, and this schedd."""
        return {
            "CONDOR_CONFIG": "ONLY_ENV",
            "_CONDOR_COLLECTOR_HOST": f"127.0.0.1:{self.port}",
            "_CONDOR_SCHEDD_HOST": SCHEDDS[schedd],
            "_CONDOR_NETWORK_INTERFACE": "127.0.0.1",
            "_CONDOR_SEC_CLIENT_AUTHENTICATION": "REQUIRED",
            "_CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS": "IDTOKENS",
            "_CONDOR_SEC_TOKEN_DIRECTORY": str(token_folder or self.folder / "token"),
            # A job that uses no file transfer runs where the domain of its files is known.
            "_CONDOR_FILESYSTEM_DOMAIN": DOMAIN,
            "_CONDOR_UID_DOMAIN": DOMAIN,
        }

    def token(self, identity: str = f"{USER}@{DOMAIN}", lifetime: int | None = None, *, forged: bool = False) -> str:
        """A further token, as text.

        Args:
            identity: whom it speaks for.
            lifetime: how long it is good for (s); by default for ever.
            forged: sign it with a key that is not the pool's.
        """
        limits = ["-lifetime", str(lifetime)] if lifetime is not None else []
        key = f"{PLACE}/passwords.d/STRANGER" if forged else f"{PLACE}/passwords.d/POOL"
        return self.tool(
            "condor_token_create", "-identity", identity, *limits, environment={"SEC_TOKEN_POOL_SIGNING_KEY_FILE": key}
        ).strip()

    def token_file(self, text: str, name: str) -> Path:
        """A private file with a token, alone in its folder."""
        folder = self.folder / "tokens" / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(folder / name, text)
        return folder / name

    def tool(
        self,
        *command: str,
        user: Literal["root", "calib"] = "root",
        environment: dict[str, str] | None = None,
        timeout: float = TOOL_SECONDS,
        check: bool = True,
    ) -> str:
        """Run one of HTCondor's tools, or anything, inside the pool.

        Args:
            command: the command and its arguments.
            user: who runs it: root (HTCondor's administrator) or calib (the owner of the jobs).
            environment: further HTCondor settings, by their names.
            timeout: how long it may take (s).
            check: whether an exit code other than 0 is an error.

        Returns:
            What it wrote to its standard output.

        Raises:
            RuntimeError: it failed; the text holds what it said.
        """
        home = "/root" if user == "root" else f"/home/{USER}"
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "CONDOR_CONFIG": f"{PLACE}/condor_config", "HOME": home}
        variables |= {f"_CONDOR_{name}": value for name, value in (environment or {}).items()}
        enter = ["nsenter", "--target", str(self.init), "--mount", "--pid", "--root", "--wd", "--"]
        change = [] if user == "root" else ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
        settings = [f"{name}={value}" for name, value in variables.items()]
        done = subprocess.run(
            [*enter, *change, "env", "-i", *settings, *command],
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise RuntimeError(
                f"{command[0]} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout

    # --- Faults

    def processes(self) -> dict[int, list[str]]:
        """All processes of this pool, by number, with their commands: those in its process namespace."""
        try:
            namespace = os.readlink(f"/proc/{self.init}/ns/pid")
        except OSError:
            return {}
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(entry / "ns" / "pid") == namespace:
                    found[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").split("\0")[:-1]
        return found

    def daemon(self, name: str) -> int:
        """The process number of a daemon.

        Raises:
            ProcessLookupError: it does not run.
        """
        kind, _, local = name.partition(":")
        for number, command in self.processes().items():
            if command and Path(command[0]).name == f"condor_{kind}" and ("other" in command) == (local == "other"):
                return number
        raise ProcessLookupError(f"{name} does not run")

    def kill(self, name: str) -> int:
        """Kill -9 a daemon, which the master starts again by itself after about 2 s; returns its old number."""
        number = self.daemon(name)
        os.kill(number, signal.SIGKILL)
        return number

    def restart(self, name: str) -> None:
        """Kill a daemon and wait until the one that the master starts in its place answers."""
        old = self.kill(name)
        self.wait_back(name, old)

    def wait_back(self, name: str, old: int, seconds: float = START_SECONDS) -> None:
        """Wait until a daemon other than the old one runs, and all of the pool answers.

        Raises:
            TimeoutError: it did not come back.
        """

        def back() -> bool:
            with suppress(ProcessLookupError):
                return self.daemon(name) != old and self._complete()
            return False

        if not self._until(back, seconds):
            raise TimeoutError(f"{name} is not back after {seconds:g} s")

    def stop_silently(self, name: str) -> None:
        """Stop a daemon with SIGSTOP: it accepts connections and stays silent."""
        os.kill(self.daemon(name), signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a daemon go on that was stopped silently."""
        os.kill(self.daemon(name), signal.SIGCONT)

    def fill_spool(self) -> None:
        """Fill the spool of the other schedd to the last byte; only that one's has a size of its own."""
        self.tool("dd", "if=/dev/zero", f"of={PLACE}/other/spool/filling", "bs=64k", check=False)

    def empty_spool(self) -> None:
        """Remove what :meth:`fill_spool` put there."""
        self.tool("rm", "-f", f"{PLACE}/other/spool/filling")

    # --- Inner

    def _complete(self) -> bool:
        """Whether the collector knows all daemons, and both schedds answer."""
        try:
            self.init = int((self.folder / "init.pid").read_text())
            ads = self.tool("condor_status", "-any", "-af", "MyType", timeout=5).split()
            if any(ads.count(kind) < count for kind, count in COMPLETE.items()):
                return False
            for name in SCHEDDS.values():
                self.tool("condor_q", "-name", name, "-totals", timeout=5)
        except (OSError, ValueError, RuntimeError, subprocess.TimeoutExpired):
            return False
        return True

    def _last_words(self) -> str:
        """The last line that said why there is no pool."""
        for name in ("guard.log", "init.log", "log/MasterLog"):
            with suppress(OSError):
                if lines := (self.folder / name).read_text(errors="replace").strip().splitlines():
                    return lines[-1]
        return "nothing was said"

    @staticmethod
    def _until(condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition; whether it came."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.1)
        return False
