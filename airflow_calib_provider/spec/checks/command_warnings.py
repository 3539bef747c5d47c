"""What a command names and its job will not find: programs, the scripts of interpreters, relative paths."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

Wrong = tuple[int, str, str]
"""The argument's number, what is wrong with it, and what to do."""

HINT = 'write "{{ spec.folder }}/…"'

SHELL_HINT = 'for a shell: [bash, -c, "…"]'

_INSTEAD = {
    "CALIB_INPUTS": "{{ job.inputs_file }}",
    "CALIB_OUT": "{{ job.out }}",
    "CALIB_REPORT": "{{ job.report }}",
    "CALIB_JOB": "{{ job.index }}",
    "CALIB_ATTEMPT": "{{ job.attempt }}",
    "CALIB_GROUP": "{{ group.name }}",
}
"""Variables of the contract that templates have, too."""

_NO_SCRIPT = {
    r"python[\d.]*|pypy[\d.]*": "cm",
    r"(?:ba|da|z|k|a)?sh": "cs",
    r"perl[\d.]*|ruby[\d.]*|node|julia|lua[\d.]*|Rscript": "eE",
}
"""Interpreters, and the letters of options after which there is no script."""

_WITH_VALUE = ("-W", "-X", "-o", "-O", "--rcfile", "--init-file", "-I", "-r", "-L", "-J")
"""Options whose value is the next argument."""

_SHELL = frozenset({"&&", "||", "|", ">", ">>", "<", "2>", "2>&1"})
_VARIABLE = re.compile(r"(?:--?[\w-]+=)?\$\{?([A-Za-z_]\w*)\}?(?:/\S*)?")
_BRACES = re.compile(r"[^\s{]*\{ ?((?:run|runs|group|job|tasks|params|payloads|spec)\.[\w.\[\]]+) ?\}[^\s}]*")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


def as_here(path: Path) -> bool:
    """What jobs see that run where this machine's files are."""
    return True


def wrong_with_command(
    arguments: Sequence[str | None], present: Collection[str] = (), shared: Callable[[Path], bool] = as_here
) -> Iterator[Wrong]:
    """What of a command will not be found.

    :param arguments: as far as they are known before a job is made; ``None``: not known.
    :param present: names of files that the job finds in its working directory.
    :param shared: whether the job has a file of this machine; one that it has from elsewhere is not looked for.
    """
    start = _after_env(arguments)
    if start >= len(arguments):
        return
    program = arguments[start]
    script = None if program is None else _script(arguments, start)
    if program is not None and "/" in program and _looked_for(program, shared) and (wrong := _of_program(program)):
        yield start, *wrong
    file = "" if script is None else str(arguments[script])
    if script is not None and _looked_for(file, shared) and (wrong := _of_script(file, str(program), present)):
        yield script, *wrong
    for number in range(start + 1, len(arguments)):
        text = arguments[number]
        option = (arguments[number - 1] or "").startswith("-")  # such as -d '|'
        if text is not None and not (option and text in _SHELL) and (found := taken_as_it_is(text)):
            yield number, *found
        if number != script and text is not None and (path := above(text)):
            yield number, _outside(path), HINT


def _looked_for(file: str, shared: Callable[[Path], bool]) -> bool:
    path = Path(os.path.normpath(file))
    return not path.is_absolute() or shared(path)


def taken_as_it_is(text: str) -> tuple[str, str] | None:
    """What of an argument looks like a shell's word or like a template and is neither; ``None``: nothing."""
    if text in _SHELL:
        return f"{text!r} is an argument like any other: no shell reads the command", SHELL_HINT
    if variable := _VARIABLE.fullmatch(text):
        instead = _INSTEAD.get(variable[1])
        return f"{text} stays as it is: no shell reads it", f'write "{instead}"' if instead else SHELL_HINT
    if braces := _BRACES.fullmatch(text):
        return f"{text} stays as it is: a template has two braces", f'write "{{{{ {braces[1]} }}}}"'
    return None


def above(text: str) -> str | None:
    """The relative path in an argument that leads out of the folder where a job runs; ``None``: there is none."""
    value = text.rpartition("=")[2] if text.startswith("-") else text
    steps = os.path.normpath(value).split("/") if value else [""]
    return value if steps[0] == ".." and "\n" not in value and " " not in value else None


def _outside(path: str) -> str:
    return f"{path} leads out of the folder where the job runs (CALIB_OUT), not from this file's"


def _after_env(arguments: Sequence[str | None]) -> int:
    """The number of the program itself, behind ``env NAME=VALUE …``."""
    if not arguments or arguments[0] is None or Path(arguments[0]).name != "env":
        return 0
    for number, text in enumerate(arguments[1:], start=1):
        if text is None or not (text.startswith("-") or _ASSIGNMENT.match(text)):
            return number
    return len(arguments)


def _script(arguments: Sequence[str | None], start: int) -> int | None:
    """The number of the argument that is an interpreter's script."""
    name = Path(str(arguments[start])).name
    letters = next((letters for pattern, letters in _NO_SCRIPT.items() if re.fullmatch(pattern, name)), None)
    if letters is None:
        return None
    number = start + 1
    while number < len(arguments):
        text = arguments[number]
        if text is None or text == "-":
            return None
        if not text.startswith(("-", "+")):
            return number
        if text == "--":
            return number + 1 if number + 1 < len(arguments) and arguments[number + 1] is not None else None
        if not text.startswith("--") and any(letter in text[1:] for letter in letters):
            return None
        number += 2 if text in _WITH_VALUE else 1
    return None


def _of_script(script: str, program: str, present: Collection[str]) -> tuple[str, str] | None:
    path = Path(script)
    if not path.is_absolute():
        if script in present:
            return None
        if above(script):
            return _outside(script), HINT
        return f"the script {script} is looked for in the folder where the job runs (CALIB_OUT), which is empty", HINT
    path = Path(os.path.normpath(path))
    if not path.exists():
        return f"the script {path} does not exist", f"{Path(program).name} cannot start before it does"
    if not os.access(path, os.R_OK):
        return f"the script {path} cannot be read", f"chmod +r {path}"
    return None


def _of_program(program: str) -> tuple[str, str] | None:
    path = Path(program)
    if not path.is_absolute():
        return (
            f"the program {program} is looked for in the folder where it is started, not beside this file",
            f"{HINT}, or a name that is in PATH",
        )
    path = Path(os.path.normpath(path))
    if not path.exists():
        return f"the program {path} does not exist", "the job cannot be started before it does"
    if not path.is_file() or not os.access(path, os.X_OK):
        return f"the program {path} is not executable", "" if path.is_dir() else f"chmod +x {path}"
    return None
