from __future__ import annotations

import pytest

from millstream.engine import LogRefused
from millstream.engine.stores.address import log_at, shown_address
from millstream.engine.stores.postgres.settings import settings_of


def test_what_is_ours_is_taken_out_of_an_address_and_the_rest_is_the_drivers() -> None:
    settings = settings_of(
        "postgresql://ann:secret@one:1,two:2/shop?schema=orders&sslmode=verify-full&lease_seconds=5&pooled=true"
    )
    assert settings.dsn == "postgresql://ann:secret@one:1,two:2/shop?sslmode=verify-full"
    assert settings.name == "postgresql://one:1,two:2/shop?schema=orders"
    assert (settings.schema, settings.lease_seconds, settings.answer_seconds_max) == ("orders", 5.0, 10.0)
    assert (settings.pooled, settings.chooses_server) == (True, False)


@pytest.mark.parametrize(
    ("address", "dsn", "schema"),
    [
        ("postgresql:///shop", "postgresql:///shop", "millstream"),
        ("postgres://h/shop?target_session_attrs=any", "postgresql://h/shop?target_session_attrs=any", "millstream"),
        ("postgresql://h/shop?schema=My%20%22shop%22", "postgresql://h/shop", 'My "shop"'),
    ],
)
def test_an_address_names_one_schema(address: str, dsn: str, schema: str) -> None:
    settings = settings_of(address)
    assert (settings.dsn, settings.schema) == (dsn, schema)
    assert settings.place == '"' + schema.replace('"', '""') + '"'


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://ann:secret@h/shop?schema=",
        "postgresql://ann:secret@h/shop?schema=pg_shop",
        f"postgresql://ann:secret@h/shop?schema={'a' * 64}",
        "postgresql://ann:secret@h/shop?lease_seconds=0.1",
        "postgresql://ann:secret@h/shop?lease_seconds=long",
        "postgresql://ann:secret@h/shop?pooled=maybe",
        "postgresql://ann:secret@h:port/shop",
        "postgresql://ann:secret#more@h/shop",
        "postgresql://ann:secret@h/shop?lease_seconds=inf",
        "postgresql://ann:secret@h/shop?answer_seconds_max=nan",
        "postgresql://ann:secret@h/shop?schema=a$$b",
    ],
)
def test_an_address_that_says_nothing_sensible_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(LogRefused) as raised:
        log_at(address)
    assert "secret" not in str(raised.value)
    assert "write postgresql://USER@HOST:PORT/DATABASE?schema=NAME" in str(raised.value)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("lease_seconds=long", "lease_seconds is 0.5 to 86,400, answer_seconds_max above 0 and no more"),
        ("answer_seconds_max=1m", "lease_seconds is 0.5 to 86,400, answer_seconds_max above 0 and no more"),
        ("pooled=maybe", "pooled is true or false"),
        ("schema=a&schema=b", "a parameter is there twice"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_said_with_the_whole_place(query: str, problem: str) -> None:
    with pytest.raises(LogRefused) as raised:
        settings_of(f"postgresql://ann@h/shop?{query}")
    assert str(raised.value).startswith("log postgresql://h/shop?schema=")
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("bank.db", "bank.db"),
        ("sqlite:bank.db", "sqlite:bank.db"),
        ("postgresql://ann:p@ss@one,ann:x@two/shop?schema=a", "postgresql://one,two/shop?schema=a"),
        ("postgresql://h/shop?schema=a", "postgresql://h/shop?schema=a"),
        ("postgresql://h/shop?schema=a&user=ann&password=secret", "postgresql://h/shop?schema=a"),
        ("postgresql://h/shop?password=secret", "postgresql://h/shop"),
    ],
)
def test_an_address_is_shown_without_who_uses_it(address: str, shown: str) -> None:
    assert shown_address(address) == shown


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://127.0.0.1:1/db?lease_seconds=soon&password=S3CRET",
        "postgresql://127.0.0.1:1/db?pooled=perhaps&password=S3CRET",
        "postgresql://127.0.0.1:1/db?password=mine&S3CRET",
        "postgresql://ann:[S3CRET@host/db",
        "postgresql:/user:S3CRET@host/db",
        "postgresql:user:S3CRET@host/db",
    ],
)
def test_what_can_not_be_read_shows_no_password(address: str) -> None:
    with pytest.raises(LogRefused) as raised:
        settings_of(address)
    assert "S3CRET" not in str(raised.value)
