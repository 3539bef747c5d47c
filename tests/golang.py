"""Programs that are built from Go modules: what their ``go.mod`` says before Go completes it."""

from __future__ import annotations

from collections.abc import Sequence

GO = "1.24"


def module_file(module: str, version: str, tools: Sequence[str] = ()) -> str:
    """The text of a ``go.mod`` that names one module; ``go mod tidy`` adds all that it needs.

    The same each time: Go takes for each module the lowest version that those before it ask for, and compares what it
    fetches with its public database of checksums. So no list of modules is kept here.

    Args:
        module: by its path.
        version: with its ``v``.
        tools: packages that are built as they are; none for a program beside the file.
    """
    lines = ["module calib.test/build", f"go {GO}", *(f"tool {tool}" for tool in tools), f"require {module} {version}"]
    return "".join(f"{line}\n" for line in lines)
