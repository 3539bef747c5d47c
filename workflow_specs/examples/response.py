"""What the jobs of response, fork, barrel, endcap, merged, laser and energy run: deriving and using constants."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

WORSE = 1e-6
"""By which new constants may be worse than old ones."""


def derive(response: float, part: str, out: Path) -> None:
    """Write the correction that makes the response 1."""
    (out / "constants.json").write_text(json.dumps({part: round(1 / response, 6)}))


def validate(constants: Path, truth: float, out: Path) -> None:
    """Write how far from 1 the response is with some constants."""
    files = constants.read_text().splitlines()
    found = json.loads(Path(files[-1]).read_text())
    (out / "closure.json").write_text(json.dumps({"residual": abs(found["all"] * truth - 1)}))


def compare(old: Path, new: Path, report: Path, out: Path) -> None:
    """Fail where new constants are worse than old ones, so that nothing is published."""
    before, after = (json.loads(file.read_text())["residual"] for file in (old, new))
    values = {"residual_old": before, "residual_new": after}
    lines = [json.dumps({"type": "value", "name": name, "value": value}) for name, value in values.items()]
    report.write_text("\n".join(lines) + "\n")
    (out / "verdict.json").write_text(json.dumps({"old": before, "new": after, "better": after <= before + WORSE}))
    if after > before + WORSE:
        sys.exit(f"the new constants are worse: {after:.2g} instead of {before:.2g}")


def merge(inputs: Path, out: Path) -> None:
    """Put the constants of several parts into one file."""
    found = {}
    for file in inputs.read_text().splitlines():
        found |= json.loads(Path(file).read_text())
    (out / "constants.json").write_text(json.dumps(dict(sorted(found.items()))))


def scale(corrections: Path, response: float, out: Path) -> None:
    """Write the correction that is left when the newest one of the laser was applied."""
    files = corrections.read_text().splitlines()
    laser = json.loads(Path(files[-1]).read_text())["laser"]
    (out / "constants.json").write_text(json.dumps({"all": round(1 / (response * laser), 6)}))


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for function, options in (
        (derive, {"out": Path}),
        (validate, {"constants": Path, "truth": float, "out": Path}),
        (compare, {"old": Path, "new": Path, "report": Path, "out": Path}),
        (merge, {"inputs": Path, "out": Path}),
        (scale, {"corrections": Path, "response": float, "out": Path}),
    ):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        for name, kind in options.items():
            command.add_argument(f"--{name}", type=kind, required=True)
        if function is derive:
            command.add_argument("--part", default="all")
            command.add_argument("response", type=float)
    given = vars(parser.parse_args())
    given.pop("function")(**given)


if __name__ == "__main__":
    main()
