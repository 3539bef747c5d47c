"""What every backend does, on a real Kubernetes: where images have a shell, and where they have none."""

from __future__ import annotations

from dataclasses import replace

from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from tests.backends.conformance import BackendConformance, finals, follow, shell
from tests.backends.kubernetes_kit import KubernetesBackends


class TestShell(KubernetesBackends, BackendConformance):
    """Images that have a shell."""


class TestStatic(KubernetesBackends, BackendConformance):
    """The jobs of the suite need a shell, and what starts them does not."""

    shell = False


class TestWithoutShell(KubernetesBackends):
    """An image with one program and nothing else."""

    image = "localhost/plain:1"
    shell = False

    def test_its_program_runs(self, backend, make_round):
        one = make_round()
        odd = ["", "two words", "quote ' and \"", "$HOME `id` \\", "Zürich"]
        good = one.job("/plain", "file", "0", *odd)
        one.job("/plain", "file", "3")
        one.job("/gone")
        backend.submit(one.key, one.jobs)
        ends = finals(follow(backend, [one.key], patience=120)[one.key])
        assert [ends[n].state for n in range(3)] == [AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.FAILED]
        assert (good / "out" / "file").read_text() == "\n".join(odd) + "\n"
        assert (good / "stdout").read_text() == "wrote file\n"
        assert (ends[1].exit_code, ends[1].failure) == (3, FailureClass.EXIT)
        assert ends[2].failure is FailureClass.START
        assert ends[0].memory is not None


class TestElsewhere(KubernetesBackends):
    """Pods that have the spool at another place."""

    spool_at = "/calib"

    def test_a_job_sees_the_paths_of_its_pod(self, backend, make_round, home):
        one = make_round()
        folder = one.job(*shell('pwd; echo "$1" "$CALIB_OUT"; : >"$CALIB_OUT/file"', f"{home}/x"))
        one.jobs[0] = replace(one.jobs[0], environment={"CALIB_OUT": str(folder / "out")})
        backend.submit(one.key, one.jobs)
        assert finals(follow(backend, [one.key])[one.key])[0].state is AttemptState.SUCCEEDED
        there = f"/calib/{(folder / 'out').relative_to(home)}"
        assert (folder / "stdout").read_text() == f"{there}\n/calib/x {there}\n"
        assert (folder / "out" / "file").exists()
