"""SciTokens on a real HTCondor pool: signed by an issuer of the tests, whose keys the pool fetches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.errors import BackendError
from tests.backends.condor_kit import SUCCEEDED
from tests.backends.conformance import finals, follow, shell
from tests.pool.config import DOMAIN, PLACE
from tests.pool.issuer import Issuer

pytestmark = [pytest.mark.condor]


@pytest.fixture
def issuer(condor_root: Path, pool, reconfigured) -> Iterator[Issuer]:
    folder = condor_root / "issuer"
    folder.mkdir()
    with Issuer(folder) as made:
        certificate, key = made.host_certificate("schedd", f"127-0-0-1.{DOMAIN}", "localhost")
        mapping = pool.folder / "mapfile"
        mapping.write_text(f"SCITOKENS ^{re.escape(made.url)},calib$ calib@{DOMAIN}\n")
        # Keys are fetched with what the machine trusts.
        pool.tool("sh", "-c", f"cat {made.ca_file} >> /etc/ssl/certs/ca-certificates.crt")
        reconfigured(
            "SEC_DEFAULT_AUTHENTICATION_METHODS = SCITOKENS, IDTOKENS",
            "SEC_READ_AUTHENTICATION_METHODS = SCITOKENS, IDTOKENS",
            f"AUTH_SSL_SERVER_CERTFILE = {certificate}",
            f"AUTH_SSL_SERVER_KEYFILE = {key}",
            f"AUTH_SSL_SERVER_CAFILE = {made.ca_file}",
            f"AUTH_SSL_CLIENT_CAFILE = {made.ca_file}",
            f"CERTIFICATE_MAPFILE = {PLACE}/mapfile",
            f"SEC_SCITOKENS_CACHE = {PLACE}/run/scitokens",
        )
        yield made


def connection(pool, issuer: Issuer, token: str) -> dict[str, object]:
    # By name: it is the server's name that its certificate proves.
    more = {"collector": f"localhost:{pool.port}", "configuration": {"AUTH_SSL_CLIENT_CAFILE": str(issuer.ca_file)}}
    return {"authentication": "SCITOKENS", "token": token, "more": more}


def test_a_token_of_an_issuer_runs_jobs(make_condor, make_round, pool, issuer):
    backend = make_condor("by_scitoken", **connection(pool, issuer, issuer.token()))
    assert f"answers as calib@{DOMAIN}" in backend.check()
    one = make_round()
    one.job(*shell("true"))
    backend.submit(one.key, one.jobs)
    assert finals(follow(backend, [one.key])[one.key])[0].state == SUCCEEDED


@pytest.mark.parametrize("wrong", ["expired", "unknown subject", "other issuer"])
def test_a_wrong_token_is_refused(make_condor, pool, issuer, condor_root, wrong):
    (condor_root / "other").mkdir()
    tokens = {
        "expired": lambda: issuer.token(lifetime=-60),
        "unknown subject": lambda: issuer.token("somebody"),
        "other issuer": lambda: Issuer(condor_root / "other").token(),
    }
    make_condor("right", **connection(pool, issuer, issuer.token())).check()
    token = tokens[wrong]()
    with pytest.raises(BackendError, match=r"SCITOKENS.*does the token.*fit this schedd") as caught:
        make_condor("wrong", timeout=10.0, **connection(pool, issuer, token)).check()
    assert token not in str(caught.value)
