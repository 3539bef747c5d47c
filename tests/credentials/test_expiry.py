"""Until when a proxy, a token and a ticket hold."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_calib_provider.credentials import kerberos, proxy, token
from tests.credentials import making

T = datetime(2026, 5, 1, 12, tzinfo=UTC)
LATER = T + timedelta(hours=3)
FILE_SERVER = (making.REALM, b"cifs", b"eos.example.org")


def test_a_proxy_holds_as_long_as_all_of_its_chain() -> None:
    assert proxy.expiry(making.proxy(T)) == T
    assert proxy.expiry(making.proxy(LATER, T)) == T
    assert proxy.expiry(making.proxy(T, LATER, LATER)) == T


def test_a_token_says_when_it_expires() -> None:
    assert token.expiry(making.token({"exp": T.timestamp()}) + b"\n") == T
    assert token.expiry(making.token({"sub": "calib"})) is None


def test_of_a_cache_the_ticket_counts_by_which_others_are_had() -> None:
    assert kerberos.expiry(making.kerberos(T)) == T
    service = making.ticket(FILE_SERVER, T + timedelta(minutes=5), addresses=[bytes(4), bytes(16)])
    setting = making.ticket(making.CONFIGURATION, datetime.fromtimestamp(0, UTC))
    assert kerberos.expiry(making.cache(setting, service, making.ticket(making.GRANTING, LATER))) == LATER
    assert kerberos.expiry(making.cache(making.ticket(making.GRANTING, LATER), service)) == LATER
    assert kerberos.expiry(making.cache(setting, service)) == T + timedelta(minutes=5)
    # A renewed one may stand beside the one that it replaces.
    assert kerberos.expiry(making.cache(*(making.ticket(making.GRANTING, end) for end in (T, LATER)))) == LATER


@pytest.mark.parametrize(
    ("read", "content", "said"),
    [
        (proxy.expiry, b"", "no certificate"),
        (proxy.expiry, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "."),
        (token.expiry, b"", "no JSON Web Token"),
        (token.expiry, b"a.b", "no JSON Web Token"),
        (token.expiry, b"a.\xff.c", "no JSON Web Token"),
        (token.expiry, making.token({"exp": "tomorrow"}), "no number"),
        (token.expiry, making.token({"exp": True}), "no number"),
        (token.expiry, making.token({"exp": 1e300}), "no time"),
        (kerberos.expiry, b"", "version 4"),
        (kerberos.expiry, b"\x05\x03" + making.kerberos(T)[2:], "version 4"),
        (kerberos.expiry, making.kerberos(T)[:-5], "not all of one"),
        (kerberos.expiry, making.cache(), "no ticket"),
        (kerberos.expiry, making.cache(making.ticket(making.CONFIGURATION, T)), "no ticket"),
    ],
)
def test_what_is_none_says_so(read, content, said) -> None:
    with pytest.raises(ValueError, match=said):
        read(content)


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_an_error_for_people(data: st.DataObject) -> None:
    """Whatever a file holds: a time, nothing, or what is wrong; it is never read for long."""
    kind, read = data.draw(st.sampled_from([("token", token.expiry), ("kerberos", kerberos.expiry)]))
    content = bytearray(making.content(kind, T))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    with suppress(ValueError):  # which is told; anything else would be an error of the step
        found = read(bytes(content[: data.draw(st.integers(0, len(content)))]))
        assert found is None or found.tzinfo is not None
