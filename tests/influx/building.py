"""InfluxDB's server, built from its Go module: once, kept in the cache.

Version 2.7 needs cargo too, for the library of its query language Flux.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.cache import UnavailableError, cache_folder, kept, kept_folder, say
from tests.golang import GoBuild, module_file

PKG_CONFIG = "github.com/influxdata/pkg-config"


@dataclass(frozen=True)
class Recipe:
    """How one version is built.

    Attributes:
        version: as InfluxDB counts.
        module: the Go module.
        takes: how long that takes, for people.
        tools: the programs that are needed.
        flags: of ``go build``.
        flux: whether Flux's Rust library is compiled in.
    """

    version: str
    module: str
    takes: str
    tools: tuple[str, ...] = ("go", "nice", "setpriv")
    flags: tuple[str, ...] = ()
    flux: bool = False

    @property
    def name(self) -> str:
        """The beginning of the built folder's name."""
        return f"influxdb-{self.version}"

    @property
    def package(self) -> str:
        """The command's Go package."""
        return f"{self.module}/cmd/influxd"

    @property
    def module_file(self) -> str:
        """The beginning of ``go.mod``."""
        return module_file(self.module, f"v{self.version}", [self.package, *([PKG_CONFIG] if self.flux else [])])

    def text(self) -> str:
        """All that the build depends on."""
        return "\n".join([*self.flags, str(self.flux), self.module_file, "1"])


RECIPES = {
    recipe.version: recipe
    for recipe in (
        Recipe("1.8.10", "github.com/influxdata/influxdb", "about 2 min"),
        Recipe(
            "2.7.12",
            "github.com/influxdata/influxdb/v2",
            "about 10 min",
            tools=("go", "cargo", "cc", "nice", "setpriv"),
            flags=("-tags", "sqlite_foreign_keys,sqlite_json,noasm"),
            flux=True,
        ),
    )
}


def is_built(version: str) -> bool:
    """Whether the server of this version is there already."""
    recipe = RECIPES[version]
    return kept_folder(recipe.name, recipe.text()).is_dir()


def build(version: str) -> Path:
    """The server's program, built first if there is none yet.

    Raises:
        UnavailableError: it cannot be built here.
    """
    recipe = RECIPES[version]
    return kept(recipe.name, recipe.text(), lambda folder: _Build(recipe, folder).run()) / "influxd"


class _Build:
    """One build, with its log."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.log = cache_folder() / f"{recipe.name}.log"

    def run(self) -> None:
        """Leave ``influxd`` in the folder."""
        recipe = self.recipe
        if missing := [tool for tool in recipe.tools if not shutil.which(tool)]:
            raise UnavailableError(f"InfluxDB {recipe.version} for the tests needs {', '.join(missing)} to be built")
        say(f"building InfluxDB {recipe.version} ({recipe.takes}, once; it writes {self.log})")
        build = GoBuild(f"InfluxDB {recipe.version}", self.log)
        work = self.folder / "work"
        work.mkdir()
        (work / "go.mod").write_text(recipe.module_file)
        build.go(work, "mod", "tidy")
        if recipe.flux:
            build.environment = self._with_flux(build, work)
        version = f"-s -w -X main.version={recipe.version}"
        build.go(work, "build", *recipe.flags, "-ldflags", version, "-o", self.folder / "influxd", recipe.package)
        shutil.rmtree(work)

    @staticmethod
    def _with_flux(build: GoBuild, work: Path) -> dict[str, str]:
        """The environment in which InfluxDB's own pkg-config compiles Flux's Rust library when Go asks for it."""
        tools = work / "bin"
        tools.mkdir()
        build.environment = {"CGO_ENABLED": "1"}
        build.go(work, "build", "-o", tools / "pkg-config", PKG_CONFIG)
        # Its lints deny what newer compilers warn of.
        wrapper = tools / "rustc-wrapper"
        wrapper.write_text('#!/bin/sh\nexec "$@" --cap-lints warn\n')
        wrapper.chmod(0o755)
        return {
            "CGO_ENABLED": "1",
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "PKG_CONFIG": str(tools / "pkg-config"),
            "RUSTC_WRAPPER": str(wrapper),
            # The compiler that there is; Flux's rust-toolchain file names one of long ago.
            "RUSTUP_TOOLCHAIN": os.environ.get("RUSTUP_TOOLCHAIN", "stable"),
        }
