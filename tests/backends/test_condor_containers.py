"""Jobs in containers on a real HTCondor pool: the image has a shell and nothing of ours."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from tests.backends.condor_kit import EVICTED, FAILED, HELD, SUCCEEDED, follow_to, last
from tests.backends.conformance import finals, follow, shell
from tests.cache import UnavailableError
from tests.pool.chroot import build
from tests.pool.containers import IMAGE_NAME, make_image
from tests.pool.pool import Pool

pytestmark = [pytest.mark.condor]


@pytest.fixture
def image(pool: Pool, condor_root: Path) -> Path:
    try:
        return make_image(build(), condor_root / "image")
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("transfer", [False, True])
def test_each_job_runs_in_the_image(backend, make_round, image, transfer):
    one = make_round()
    text = 'cat /etc/os-release; test -e /usr/bin/python3 && exit 9; echo "$1" > "$CALIB_OUT/said"; exit "$2"'
    folders = []
    for words, code in (("with 'quotes' and spaces", "0"), ("x", "7")):
        folder = one.job(*shell(text, words, code))
        job = one.jobs.pop()
        environment = {"CALIB_OUT": str(folder / "out"), "CALIB_REPORT": str(folder / "report.jsonl")}
        (folder / "inputs.txt").write_text("")
        one.jobs.append(dataclasses.replace(job, environment=environment))
        folders.append(folder)
    backend.submit(one.key, one.jobs, {"container_image": str(image), "transfer": transfer})
    end = finals(follow(backend, [one.key])[one.key])
    assert [(end[n].state, end[n].exit_code) for n in (0, 1)] == [(SUCCEEDED, 0), (FAILED, 7)], last(list(end.values()))
    assert (folders[0] / "stdout").read_text() == f"{IMAGE_NAME}\n"
    assert (folders[0] / "out" / "said").read_text() == "with 'quotes' and spaces\n"


def test_an_image_that_is_not_there_holds_the_job_with_the_reason(backend, make_round, condor_root, image):
    one = make_round()
    one.job(*shell("true"))
    backend.submit(one.key, one.jobs, {"container_image": str(condor_root / "absent")})
    seen = follow_to(backend, one.key, HELD, FAILED)
    assert "absent" in seen[0].reason, seen
    backend.remove(one.key)


def test_a_container_that_cannot_be_started_says_so(backend, make_round, image):
    """HTCondor puts the job back into the queue each time, which counts as an eviction."""
    shutil.rmtree(image / ".singularity.d")
    one = make_round()
    one.job(*shell("true"))
    backend.submit(one.key, one.jobs, {"container_image": str(image)})
    seen = follow_to(backend, one.key, EVICTED)
    assert "Singularity test failed" in seen[0].reason
    backend.remove(one.key)
