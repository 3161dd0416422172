from __future__ import annotations

import time

import pytest

from aiostream_engine.observe.redaction import MASK, is_secret_name, redact, redact_mapping

CANARY = "CANARY-s3cr3t"


@pytest.mark.parametrize(
    "text",
    [
        f"kafka://user:{CANARY}@broker:9092/topic",
        f"postgresql+asyncpg://me:{CANARY}@db/x?sslmode=require",
        f"https://{CANARY}@github.test/x",
        f"redis://:{CANARY}@cache:6379/0",
        f"amqp://u:p@{CANARY}@host/v",
        f"https://host/x?access_token={CANARY}&page=2",
        f"https://host/x?page=2&api_key={CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"header was basic {CANARY}==",
        f"sasl_plain_password={CANARY}, retries=3",
        f"password: {CANARY}",
        f"{{'password': '{CANARY} with spaces', 'user': 'me'}}",
        f'{{"clientSecret": "{CANARY}"}}',
        f"connection_string='Endpoint=sb://x;Key={CANARY}'",
        f"AWS_SECRET_ACCESS_KEY={CANARY}",
        f"PGPASSWORD={CANARY}",
    ],
)
def test_secrets_in_texts_are_masked(text):
    """J9"""
    assert CANARY not in redact(text)
    assert MASK in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "kafka://broker:9092/topic",
        "http://localhost:8080/a?page=2",
        "word=count partition: 3",
        "mail me@example.org",
        "12:30:45 passed=7",
        "",
    ],
)
def test_other_texts_are_left_as_they_are(text):
    assert redact(text) == text


def test_the_rest_of_a_url_stays_readable():
    assert redact(f"kafka://me:{CANARY}@broker:9092/t?x=1") == "kafka://me:***@broker:9092/t?x=1"


def test_mappings_are_masked_by_name_at_every_depth():
    """J9"""
    options = {
        "user": "me",
        "password": CANARY,
        "token": None,
        "port": 5432,
        "ssl": {"private_key": CANARY, "urls": [f"https://a:{CANARY}@b", ("x", {"apiKey": CANARY})]},
        7: f"secret={CANARY}",
    }
    masked = redact_mapping(options)
    assert CANARY not in repr(masked)
    assert masked["user"] == "me"
    assert masked["port"] == 5432
    assert masked["token"] is None
    assert options["password"] == CANARY


def test_a_mapping_that_holds_itself_is_cut_off():
    loop: dict[str, object] = {"a": 1}
    loop["self"] = loop
    assert MASK in repr(redact_mapping(loop))


@pytest.mark.parametrize(
    "name", ["password", "db_passwd", "pass", "API-Key", "apikey", "sasl.jaas.config", "Cookie"]
)
def test_names_of_secrets_are_known(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["bypass_cache", "passed", "keys", "partition", "monkey"])
def test_names_of_other_things_are_not(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize("unit", ["a://", "a=", "a:@", "x://@", '="', "basic ", "_.-", "a=a:"])
def test_hostile_text_takes_no_more_than_linear_time(unit):
    """J10"""
    begin = time.process_time()
    redact(unit * (200_000 // len(unit)))
    assert time.process_time() - begin < 10
