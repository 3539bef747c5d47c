"""Kubernetes' server side, built from its Go module: once, kept in the cache; and the runtime of its containers."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.cache import UnavailableError, cache_folder, kept, kept_folder, say
from tests.debian import libraries, release, unpack
from tests.golang import GoBuild, compiler, module_file

VERSION = "1.34.2"
MODULE = "k8s.io/kubernetes"
SOURCES = Path(__file__).with_name("programs")
NAME = f"kubernetes-{VERSION}"
NODE = ("kube", "pause", "plain")
TOOLS = ("mount", "nice", "nsenter", "setpriv", "unshare")  # of every Linux

RUNTIME = ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "busybox")
PACKAGES = ("containerd", "runc", "containernetworking-plugins", "busybox-static", "libseccomp2")
PLUGINS = "usr/lib/cni"


@dataclass(frozen=True)
class Programs:
    """What a node is made of.

    Attributes:
        folder: of our own programs: kube, pause, plain.
        plugins: the folder of the network's plugins.
        environment: in which the runtime is found.
    """

    folder: Path
    plugins: Path
    environment: dict[str, str]

    def find(self, name: str) -> str:
        """The path of one of the runtime's programs."""
        return str(shutil.which(name, path=self.environment["PATH"]))


def programs() -> Programs:
    """All programs, built and fetched first where they are missing (7 min on 2 CPUs, once).

    Raises:
        UnavailableError: they cannot be had here.
    """
    if os.geteuid():
        raise UnavailableError("a Kubernetes cluster for the tests needs root")
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        raise UnavailableError(f"a Kubernetes cluster for the tests needs {', '.join(missing)}")
    plugins, environment = runtime()
    return Programs(kept(NAME, recipe(), _build), plugins, environment)


def is_built() -> bool:
    """Whether the longest part of it is done."""
    return kept_folder(NAME, recipe()).is_dir()


def kubectl() -> Path:
    """Kubernetes' own client, built first if there is none yet (1 min, after the node's programs).

    Raises:
        UnavailableError: it cannot be built here.
    """
    return kept(f"kubectl-{VERSION}", recipe("kubectl"), lambda folder: _build(folder, "kubectl")) / "kubectl"


def recipe(*names: str) -> str:
    """All that a build depends on; a change of it means a new build."""
    sources = (SOURCES / name / "main.go" for name in names or NODE)
    return "\n".join([module_file(MODULE, f"v{VERSION}"), *(source.read_text() for source in sources), "1"])


def runtime(*, installed: bool = True) -> tuple[Path, dict[str, str]]:
    """The folder of the network's plugins, and the environment in which the runtime's programs are found.

    Args:
        installed: whether those of the machine will do.

    Raises:
        UnavailableError: they cannot be had here.
    """
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/bin:/sbin:/bin"
    plugins = Path("/", PLUGINS)
    if installed and (plugins / "bridge").exists() and all(shutil.which(name, path=path) for name in RUNTIME):
        return plugins, {"PATH": path}
    folder = kept(
        "containerd", f"{release()} {PACKAGES} 1", lambda made: unpack(made, "containerd", "40 MB", *PACKAGES)
    )
    places = ":".join(str(folder / name) for name in ("usr/sbin", "usr/bin", "bin"))
    return folder / PLUGINS, {"PATH": f"{places}:{path}", "LD_LIBRARY_PATH": libraries(folder)}


def _build(folder: Path, *names: str) -> None:
    log = cache_folder() / f"{'-'.join(names) or NAME}.log"
    what = f"kubectl {VERSION} (about 1 min" if names else f"Kubernetes {VERSION} (about 7 min on 2 CPUs"
    say(f"building {what}, once; it writes {log})")
    build = GoBuild(f"Kubernetes {VERSION}", log, compiler(), {"GOGC": "400"})
    work = folder / "work"
    for name in names or NODE:
        (work / name).mkdir(parents=True)
        shutil.copy2(SOURCES / name / "main.go", work / name)
    (work / "go.mod").write_text(module_file(MODULE, f"v{VERSION}") + _replacements(build, work))
    build.go(work, "mod", "tidy")
    major, minor, _ = VERSION.split(".")
    about = {"gitVersion": f"v{VERSION}", "gitMajor": major, "gitMinor": minor}
    flags = ["-s", "-w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in about.items())]
    build.go(work, "build", "-ldflags", " ".join(flags), "-o", f"{folder}/", "./...")
    shutil.rmtree(work)


def _replacements(build: GoBuild, work: Path) -> str:
    """Kubernetes' module names its own parts by folders of its repository; each is a module too, of version 0.X.Y."""
    module = json.loads(build.go(work.parent, "mod", "download", "-json", f"{MODULE}@v{VERSION}", output=True))
    said = json.loads(build.go(work.parent, "mod", "edit", "-json", module["GoMod"], output=True))
    parts = [one["Old"]["Path"] for one in said["Replace"] if one["New"]["Path"].startswith("./staging/")]
    version = "v0." + VERSION.partition(".")[2]
    return "".join(f"replace {part} => {part} {version}\n" for part in parts)
