"""Mutated files of workflows and run sources, each read in a folder of its own: nothing but errors of ours, or specs.

Run as a program it reads a part of them in one process, whose memory and time are limited, and says what went wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SEED = 20_260_301
SECONDS = 2.0
MEGABYTES = 500

_CHARACTERS = [
    "\x00", "\x0c", "\x0b", "\x1b", "\r", "\n", "\r\n", "\x85", "\u2028", "\u2029", "\ufeff", "\t", "é", "→", "😀",
    "\ud7ff", "\ue000", "\ufffe", "\U0010ffff",
    "'", '"', "\\", "{", "}", "[", "]", ":", "#", "&", "*", "!", "|", ">",
    "%", "@", "`", ",", "-", "?", " ", "0",
]  # fmt: skip
_TOKENS = [
    "{{", "}}", "{%", "%}", "{#", "#}", "*a", "&a ", "!!int ", "!x ", "<<", "? ", "- ", ": ", "---\n", "...\n", "|\n",
    ">-\n", "null", "~", "true", "yes", "1e9999", "-1", "0x1f", "1_000", ".inf", ".nan", "2026-01-01", "12:30:00",
    "9" * 30, "9" * 5_000, "run", "fill",
    "{}", "[]", "''", '""', "{{ run.number }}", "calib/v2", "group", "%YAML 1.2\n",
]  # fmt: skip
_EXPRESSIONS = [
    "1e9999",
    "1/0",
    "none",
    "1 // 0",
    "9 ** 9 ** 9 ** 9",
    "'a' * 10 ** 9",
    "[1] * 10 ** 9",
    "'%1000000000d' % 3",
    "'%*d' % (9, 9)",
    "range(10 ** 9) | list",
    "('{0}' * 60000).format('a' * 200000)",
    "''.__class__.__mro__",
    "[['a' * 100000] * 1000] * 1000",
    "run",
    "run.number.real",
    "group.files",
    "params",
    "job.inputs[0]",
    "'a",
    "(" * 900,
    "-" * 3_000 + "1",
    "not " * 2_000 + "1",
    "[" * 300 + "]" * 300,
    "1" + " + 1" * 2_500,
    "1" + " ~ 1" * 2_500,
    "9" * 6_000,
    "a.b.c",
    "{1: 2}[3]",
    "{}.x.y",
    "[][9]",
    "'abc'[::0]",
    "'a' is divisibleby 0",
    "1 is divisibleby 0",
    "x | map",
    "1 | nope",
    "'a' | replace('', 'b' * 9)",
    "'a' | int(base=99)",
    "'ff' | int(0, 16)",
    "'x' | round('a')",
    "run[run]",
    "a if b",
    "x(*y)",
    "{'a': 1} | dictsort | tojson",
    "[3, 'a'] | sort",
    "'\\ud800'",
    "'\\x00'",
    "caller()",
    "self",
    "loop.index",
    "a, b",
    "",
    "1 < 2 < 'a'",
    "'a' in 3",
    "-'a'",
    "'%s %s' % 'a'",
    "'%(x)s' % 1",
    "0.1 ** -999",
    "(0 - 8) ** 0.5",
    "2 ** 0.5 ** 999",
]
_CONDITIONS = [
    "[1].exists(1, true)",
    "run.",
    "run.nope > 1",
    "(" * 200 + "1",
    "!" * 300 + "true",
    "run.number == 'a'",
    "1 < 2 < 3",
    "'\\q'",
    "run.number in [1, 2, 'a']",
    "has(run)",
    "timestamp('x') > run.start",
    "duration('1') > 1",
    "1/0 == 1",
    "\x00",
    "run.number > 99999999999999999999999",
    "→ > 1",
    "[1, 2].all(a, [1, 2].all(b, a > b))",
    "run['number'] == 1",
    "true ? 1 : 2",
]
_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**63,
    10**400,
    1.5,
    float("inf"),
    float("nan"),
    "",
    " ",
    "a",
    "a" * 10_000,
    "é" * 61,
    "x\x00y",
    "1e999d",
    "99999999999999999999d",
    "0s",
    "1h1h",
    "9" * 500 + "GB",
    "1.5GB",
    "0B",
    "-1MB",
    "../x",
    "/x",
    "~",
    "a/../b",
    "a\\b",
    "condor:",
    "local:x",
    "condor:" + "a" * 300,
    "run.task.x",
    "w.t",
    "__",
    "group",
    "2026-13-01",
    "2026-03-01T25:00:00Z",
    "0001-01-01T00:00:00+14:00",
    [],
    {},
    [[]],
    [{}],
    {"": ""},
    [None],
    {"a": {"b": {"c": 1}}},
    ["x"] * 3,
    {"run": {}, "fill": {}},
    [f"nothing{i}" for i in range(3_000)],
    {f"k{i}": i for i in range(3_000)},
    "fit 'a",
    "a && b",
    "fit {{ x",
    "\ue0000\ue001",
]

Files = dict[str, bytes]


def corpus() -> list[Files]:
    """Folders of files that are good, or whose mistakes are known, smallest parts first."""
    found: list[Files] = []
    sources = (ROOT / "tests/spec/good/sources.yaml").read_bytes()
    for folder in ("tests/spec/good", "workflow_specs", "tests/integration/installation/workflow_specs"):
        place = ROOT / folder
        own = place / "sources.yaml"
        shared = own.read_bytes() if own.exists() else sources
        found += [{"w.yaml": file.read_bytes(), "sources.yaml": shared} for file in _files(place, "*.yaml", "sources")]
    cases = ROOT / "tests/spec/cases"
    base, beside = (cases / "base.yaml").read_text(), (cases / "sources.yaml").read_bytes()
    for file in sorted(cases.glob("bad_*.yaml")):
        for case in yaml.safe_load(file.read_text()):
            text = case.get("text", base)
            for before, after in case.get("edit", ()):
                text = text.replace(before, after)
            found.append({"w.yaml": str(text).encode(), "sources.yaml": beside})
    for page in sorted((ROOT / "docs").glob("*.md")):
        for text in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S):
            name = "sources.yaml" if "\nsources:" in text else "w.yaml"
            other = {"w.yaml": base.encode()} if name == "sources.yaml" else {"sources.yaml": sources}
            found.append({name: text.encode(), **other})
    return found


def _files(folder: Path, pattern: str, without: str) -> list[Path]:
    return sorted(file for file in folder.glob(pattern) if file.stem != without)


def mutated(number: int, folders: list[Files]) -> Files:
    """The files of one number: always the same."""
    chance = random.Random(SEED * 1_000_003 + number)
    files = dict(chance.choice(folders))
    name = "sources.yaml" if chance.random() < 0.2 else "w.yaml"
    content = files[name]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice((_bytes, _tokens, _structure, _value, _value, _lines))(content, chance)
    files[name] = content[:1_500_000]
    return files


def _bytes(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content) + 1)
    end = min(len(content), start + chance.choice((0, 1, 1, 3, 40)))
    extra = chance.choice(
        (
            b"",
            bytes([chance.randrange(256)]),
            chance.choice(_CHARACTERS).encode(),
            content[start:end] * chance.choice((2, 50, 2_000)),
            b"# \xe2\x86\x92 \xf0\x9f\x98\x80 \x0c",
            b"[" * chance.choice((5, 500)),
        )
    )
    return content[:start] + extra + content[end:]


def _tokens(content: bytes, chance: random.Random) -> bytes:
    text = content.decode(errors="replace")
    words = [(match.start(), match.end()) for match in re.finditer(r"\w+|[^\w\s]", text)]
    if not words:
        return content
    start, end = chance.choice(words)
    return (text[:start] + chance.choice(_TOKENS) + text[chance.choice((start, end)) :]).encode(errors="replace")


def _lines(content: bytes, chance: random.Random) -> bytes:
    text = content.decode(errors="replace")
    lines = text.split("\n")
    at = chance.randrange(len(lines))
    way = chance.randrange(5)
    if way == 0:
        return text.replace("\n", chance.choice(["\r", "\r\n", "\x85", "\u2028", "\n\t", "\n\n"])).encode()
    if way == 1:
        lines.insert(
            at, chance.choice(["# → \x0c", "# 😀\u2029 x", "\t", "---", "%TAG ! x", "...", "\ufeff", "# \x85 é"])
        )
    elif way == 2:
        lines[at : at + 1] = [lines[at]] * chance.choice((0, 2, 300))
    elif way == 3:
        lines[at] = chance.choice([" ", "    ", "\t", "- ", "? "]) + lines[at]
    else:
        other = chance.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    return "\n".join(lines).encode(errors="replace")


def _structure(content: bytes, chance: random.Random) -> bytes:
    def change(holder: Any, key: Any) -> None:
        value = holder[key]
        way = chance.randrange(6)
        if way == 0:
            del holder[key]
        elif way == 1:
            holder[key] = [value] * chance.choice((1, 2, 1_000))
        elif way == 2:
            holder[key] = {"x": value}
        elif way == 3:
            for _ in range(chance.choice((3, 28, 60))):
                value = [value] if chance.random() < 0.5 else {"x": value}
            holder[key] = value
        elif way == 4 and isinstance(holder, dict):
            holder[chance.choice(["x", "run", "fill", "jobs", "needs", "where", "a" * 200, ""])] = value
        elif way == 5 and isinstance(value, dict):
            holder[key] = value | {f"{name}_{i}": item for name, item in value.items() for i in range(200)}

    return _changed(content, chance, change)


def _value(content: bytes, chance: random.Random) -> bytes:
    def change(holder: Any, key: Any) -> None:
        kind = chance.random()
        if key == "where" or kind < 0.05:
            holder[key] = chance.choice(_CONDITIONS)
        elif kind < 0.5:
            expression = f"{{{{ {chance.choice(_EXPRESSIONS)} }}}}"
            before, after = chance.choice([("", ""), ("", ""), ("a ", " b"), ("x\n  →", "\ny"), ("{# ", " #}")])
            holder[key] = before + expression + after
        else:
            holder[key] = chance.choice(_VALUES)

    return _changed(content, chance, change)


def _changed(content: bytes, chance: random.Random, change: Callable[[Any, Any], None]) -> bytes:
    try:
        data = yaml.safe_load(content)
        places = list(_places(data))
        if places:
            change(*chance.choice(places))
        flow = chance.choice([None, None, True, False])
        style = chance.choice([None, None, '"', "'", "|"])
        text = yaml.safe_dump(data, allow_unicode=chance.random() < 0.7, default_flow_style=flow, default_style=style,
                              width=chance.choice([40, 120, 10**9]), sort_keys=False)  # fmt: skip
    except Exception:  # noqa: BLE001 - what PyYAML itself cannot read is changed in other ways
        return content
    return text.encode(errors="replace")


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    waiting = [data]
    for _ in range(2_000):  # what aliases stand for is not looked at again and again
        if not waiting:
            return
        holder = waiting.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, value in list(items)[:200]:
            yield holder, key
            waiting.append(value)


class TooSlow(BaseException):
    """A file took longer than it may. No error, so that nothing takes it for one of the file."""


def trouble(files: Files, folder: Path) -> str:
    """What is wrong with the reading of a folder; empty where each mistake is an error of ours with its place."""
    from airflow_calib_provider.errors import SpecError
    from airflow_calib_provider.secret_addresses import without_secret_addresses
    from airflow_calib_provider.spec.loader import load_folder

    for name, content in files.items():
        (folder / name).write_bytes(content)
    _, errors = load_folder(folder)
    for error in errors:
        if type(error) is not SpecError:
            return f"no SpecError: {error!r}"
        if "was not foreseen" in error.message:
            return "".join(traceback.format_exception(error))[-3_000:]
        if error.file is None or error.file.parent != folder:
            return f"no file of the folder: {error}"
        content = files[error.file.name].decode(errors="replace").removeprefix("\ufeff")
        lines = re.split("\r\n|\r|\n", content)
        if not 1 <= error.line <= len(lines) or not 1 <= error.column <= len(lines[error.line - 1]) + 1:
            return f"no place of the file: {error}"
        line = lines[error.line - 1]
        shown = ("", line, without_secret_addresses(line), without_secret_addresses(line, every=True))
        if error.context not in shown and len(line) < 500:
            return f"another line is shown: {error} {error.context!r}"
        if len(str(error)) > 3_000:
            return f"a very long error: {len(str(error)):,} characters"
    if len(errors) > 250:
        return f"{len(errors):,} errors"
    return ""


def main() -> None:
    """Read the files of some numbers; one line of JSON for each that is wrong, and for the last one that was begun."""
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int)
    parser.add_argument("last", type=int)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    folder: Path = given.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    folders = corpus()
    trouble(dict(folders[0]), folder)  # imports

    def stop(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGPROF, stop)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))
    for number in range(given.first, given.last):
        files = mutated(number, folders)
        print(json.dumps({"begun": number}), flush=True)
        before = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            said = trouble(files, folder)
        except TooSlow:
            said = "more than 2 s: " + traceback.format_exc()[-2_000:]
        except Exception:  # noqa: BLE001 - whatever is raised is what is looked for
            said = traceback.format_exc()[-3_000:]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if peak - before > MEGABYTES * 1_000:
            said = f"{(peak - before) // 1_000} MB; {said}"
            before = peak
        if said:
            print(json.dumps({"number": number, "seconds": time.process_time() - start, "said": said}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
