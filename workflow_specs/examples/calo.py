"""Iterative calibration of a toy calorimeter for particle flow, step by step. Needs nothing but Python.

The same simulated events are reconstructed again and again, each time with constants that are a little better. What the
toy leaves out is shower physics; what it has is what makes the order of the phases matter: a threshold on digitised
hits, so that a response is not proportional to its constant; hadronic scales that rest on the digitisation; a photon
identification that is trained in between, and changes the electromagnetic scale when it is used.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

GAMMA, KAON = 10.0, 20.0
"""GeV, of the photons and of the neutral kaons that are simulated."""
MIP = 0.0005
"""GeV that a muon leaves in a layer."""
THRESHOLD = 0.5
"""Of a digitised hit, in units of the mean hit."""
NARROW, BROAD = 0.0, 1.0
"""Widths of a shower: photons are narrow, hadrons broad."""
BINS = 10
LEAST = 0.08
"""Of its energy a photon loses in clustering, and a tenth of its width besides, by which it is calibrated twice."""

DETECTORS: dict[str, dict[str, float]] = {
    "CLD": {"barrel": 0.86, "endcap": 1.12, "hcal": 0.91, "ecal_of_hadrons": 0.87, "lost": 0.03},
    "CLIC": {"barrel": 1.09, "endcap": 0.93, "hcal": 1.14, "ecal_of_hadrons": 0.82, "lost": 0.01},
}
"""What was injected, by the gains of the electronics: a real detector does not say."""

Constants = Mapping[str, float]
Sample = Iterator[tuple[str, float]]


def response(calibrated: float) -> float:
    """What is digitised of 1 GeV, with the hits below the threshold left out: 1 if constant times gain is 1."""
    kept = [1 + THRESHOLD / one for one in (calibrated, 1.0)]
    return calibrated * kept[0] / kept[1] * math.exp(THRESHOLD - THRESHOLD / calibrated)


def containment(layers: int) -> float:
    """The part of a hadron shower that does not leak, as simulation says."""
    return 1 - math.exp(-layers / 15)


def gamma(source: random.Random, truth: Constants, constants: Constants, barrel: Sequence[float], _: int) -> Sample:
    """Photons: digitised in barrel and endcaps, and reconstructed if they are found to be photons."""
    polar = source.uniform(0, 0.97)
    part = "barrel" if barrel[0] <= polar <= barrel[1] else "endcap"
    found = GAMMA * response(constants[f"ecal_{part}"] * truth[part]) * source.gauss(1, 0.05)
    width = source.triangular(NARROW, BROAD, NARROW)
    yield part, found
    if width < constants["photon_width"]:
        yield "photon", constants["em"] * found * (1 - LEAST - 0.1 * width)


def kaon(source: random.Random, truth: Constants, constants: Constants, _: Sequence[float], layers: int) -> Sample:
    """Neutral kaons: half of them begin to shower in the ECAL."""
    early, width = source.random() < 0.5, source.triangular(NARROW, BROAD, BROAD)
    share = source.uniform(0.3, 0.7) if early else 0.0
    of_ecal = response(constants["ecal_barrel"] * truth["barrel"]) * truth["ecal_of_hadrons"]
    of_hcal = response(constants["hcal"] * truth["hcal"]) * containment(layers)
    smeared = KAON * source.gauss(1, 0.08)
    ecal, hcal = smeared * share * of_ecal, smeared * (1 - share) * of_hcal
    energy = (constants["ecal_to_had"] * ecal + constants["hcal_to_had"] * hcal) * (1 - truth["lost"])
    if not early:
        yield "hcal", hcal / containment(layers)
        yield "late", energy
    elif width > constants["photon_width"] / 2:
        yield from (("early", energy), ("early_ecal", ecal), ("early_hcal", hcal))


def muon(source: random.Random, truth: Constants, constants: Constants, _: Sequence[float], __: int) -> Sample:
    """Muons: the mean hit in a layer."""
    yield "mip_ecal", MIP * constants["ecal_barrel"] * truth["barrel"] * source.gauss(1, 0.2)
    yield "mip_hcal", MIP * constants["hcal"] * truth["hcal"] * source.gauss(1, 0.2)


def zuds(source: random.Random, truth: Constants, constants: Constants, _: Sequence[float], __: int) -> Sample:
    """Jets of light quarks: showers of photons and of hadrons, in bins of their width."""
    for kind, peak in (("photons", NARROW), ("hadrons", BROAD)):
        yield f"{kind} {math.floor(BINS * source.triangular(NARROW, BROAD, peak)):d}", 1.0


SAMPLES: dict[str, Callable[[random.Random, Constants, Constants, Sequence[float], int], Sample]] = {
    "ecal_digi": gamma, "hcal_digi": kaon, "mip": muon, "em_scale": gamma, "had_scale": kaon, "photons": zuds,
}  # fmt: skip
"""What a phase reconstructs."""


def measure(
    phase: str, detector: str, barrel: Sequence[float], layers: int, constants: Path, events: int, job: int, jobs: int,
    report: Path, out: Path,
) -> None:  # fmt: skip
    """Reconstruct one job's events: of each quantity its number, sum, and sum of squares."""
    simulated, of_now = SAMPLES[phase], json.loads(constants.read_text())
    source = random.Random(f"{detector} {simulated.__name__} {job}")
    sums: dict[str, list[float]] = {}
    mine = events * (job + 1) // jobs - events * job // jobs
    for _ in range(mine):
        for name, value in simulated(source, DETECTORS[detector], of_now, barrel, layers):
            one = sums.setdefault(name, [0, 0.0, 0.0])
            one[0], one[1], one[2] = one[0] + 1, one[1] + value, one[2] + value * value
    (out / "sums.json").write_text(json.dumps(sums))
    report.write_text(json.dumps({"type": "value", "name": "events", "value": mine}) + "\n")


# updates


class Sums:
    """What all jobs of a step have found."""

    def __init__(self, results: Path) -> None:
        self.of: dict[str, list[float]] = {}
        for one in json.loads(results.read_text())["results"]:
            for name, sums in json.loads(Path(one["products"]["sums"]).read_text()).items():
                self.of[name] = [a + b for a, b in zip(self.of.get(name, [0, 0, 0]), sums, strict=True)]

    def mean(self, name: str) -> float:
        """In GeV."""
        n, total, _ = self.of[name]
        return total / n

    def error(self, name: str) -> float:
        """Of the mean, in GeV: one standard deviation."""
        n, total, squares = self.of[name]
        return math.sqrt(max(squares / n - (total / n) ** 2, 0.0) / n)


def digitise(sums: Sums, constants: dict[str, float], damping: float) -> list[str]:
    """Scale the digitisation until photons and kaons have their energy."""
    known = {"barrel": ("ecal_barrel", GAMMA), "endcap": ("ecal_endcap", GAMMA), "hcal": ("hcal", KAON)}
    found = [name for name in known if name in sums.of]
    for name in found:
        constant, target = known[name]
        constants[constant] *= (target / sums.mean(name)) ** damping
    return found


def em(sums: Sums, constants: dict[str, float], damping: float) -> list[str]:
    """Scale reconstructed photons."""
    constants["em"] *= (GAMMA / sums.mean("photon")) ** damping
    return ["photon"]


def had(sums: Sums, constants: dict[str, float], damping: float) -> list[str]:
    """Scale reconstructed hadrons: first those that shower in the HCAL only, then what the ECAL has of the others."""
    before = constants["hcal_to_had"]
    constants["hcal_to_had"] *= (KAON / sums.mean("late")) ** damping
    reached = sums.mean("early") + (constants["hcal_to_had"] - before) * sums.mean("early_hcal")
    constants["ecal_to_had"] += damping * (KAON - reached) / sums.mean("early_ecal")
    return ["early", "late"]


UPDATES = {"ecal_digi": digitise, "hcal_digi": digitise, "em_scale": em, "had_scale": had}


def update(phase: str, results: Path, constants: Path, damping: float, report: Path, out: Path) -> None:
    """Make new constants of what was measured with the old ones, and report how good these were."""
    of_now, sums = json.loads(constants.read_text()), Sums(results)
    metrics = UPDATES[phase](sums, of_now, damping)
    found = {name: {"value": sums.mean(name), "error": sums.error(name)} for name in metrics}
    _write(of_now, {"metrics": found}, report, out)


def mip(results: Path, kaons: Path, constants: Path, report: Path, out: Path) -> None:
    """What a muon leaves in a layer, and how many such a kaon leaves in the HCAL."""
    of_now, sums = json.loads(constants.read_text()), Sums(results)
    for name in ("mip_ecal", "mip_hcal"):
        of_now[name] = sums.mean(name)
    found = {"mips_of_a_kaon": {"value": Sums(kaons).mean("hcal") / of_now["mip_hcal"]}}
    _write(of_now, {"metrics": found}, report, out)


def train(results: Path, constants: Path, report: Path, out: Path) -> None:
    """Find the width below which a shower is rather a photon, from the histograms of all jobs."""
    of_now, sums = json.loads(constants.read_text()), Sums(results)
    seen = {kind: [sums.of.get(f"{kind} {n}", [0])[0] for n in range(BINS)] for kind in ("photons", "hadrons")}
    pairs = enumerate(zip(seen["photons"], seen["hadrons"], strict=True))
    of_now["photon_width"] = next(n for n, (photons, hadrons) in pairs if hadrons > photons) / BINS
    (out / "likelihood.json").write_text(json.dumps(seen))
    _write(of_now, {}, report, out)


def check(
    constants: Path, detector: str, barrel: Sequence[float], layers: int, events: int, report: Path, out: Path
) -> None:
    """What photons and kaons come to that were not used before, with the constants in the end."""
    known, source = json.loads(constants.read_text()), random.Random(f"{detector} check")
    found: dict[str, list[float]] = {"photon": [], "early": [], "late": []}
    for sample in (gamma, kaon):
        for _ in range(events):
            for name, value in sample(source, DETECTORS[detector], known, barrel, layers):
                found.get(name, []).append(value)
    means = {name: sum(values) / len(values) for name, values in found.items()}
    lines = [json.dumps({"type": "value", "name": name, "value": mean}) for name, mean in means.items()]
    report.write_text("\n".join(lines) + "\n")
    (out / "check.json").write_text(json.dumps(means))


def _write(constants: Constants, said: Mapping[str, object], report: Path, out: Path) -> None:
    (out / "calo.json").write_text(json.dumps(constants))
    report.write_text(json.dumps(said) + "\n" if said else "")


def main(given: Sequence[str] | None = None) -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    detector = {"detector": str, "barrel": json.loads, "layers": int, "events": int}
    updating = {"results": Path, "constants": Path, "report": Path, "out": Path}
    for function, options in (
        (measure, {"phase": str, **detector, "job": int, "jobs": int}),
        (update, {"phase": str, "damping": float}),
        (mip, {"kaons": Path}),
        (train, {}),
        (check, detector),
    ):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        shared = {
            name: kind for name, kind in updating.items() if name != "results" or function in (update, mip, train)
        }
        for name, kind in {**options, **shared}.items():
            command.add_argument(f"--{name}", type=kind, required=True)
    asked = vars(parser.parse_args(given))
    asked.pop("function")(**asked)


if __name__ == "__main__":
    main()
