from __future__ import annotations

import pickle

import pytest

from aiostream_engine.errors import ConfigurationError
from aiostream_engine.kafka.settings import KafkaSettings


def test_secrets_are_not_shown() -> None:
    """J9"""
    settings = KafkaSettings(
        "broker:9093",
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_plain_username="alice",
        sasl_plain_password="wonderland-7",
        ssl_password="looking-glass",
    )
    for text in (repr(settings), str(settings)):
        assert "wonderland" not in text
        assert "looking" not in text
        assert "broker:9093" in text
        assert "alice" in text


def test_a_token_provider_is_not_shown() -> None:
    """J9"""

    class Tokens:
        def __repr__(self) -> str:
            return "eyJhbGciOi"

        async def token(self) -> str:
            return "eyJhbGciOi"

    settings = KafkaSettings(
        "b:1",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="OAUTHBEARER",
        sasl_oauth_token_provider=Tokens(),
    )
    assert "eyJ" not in repr(settings)
    assert "sasl_oauth_token_provider" in repr(settings)


def test_names_of_other_clients_are_understood() -> None:
    dotted = KafkaSettings.of(
        {
            "bootstrap.servers": "a:1, b:2",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-256",
            "sasl.username": "alice",
            "sasl.password": "x",
            "ssl.ca.location": "/ca.pem",
        },
        client_id="me",
    )
    assert dotted == KafkaSettings(
        "a:1, b:2",
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_plain_username="alice",
        sasl_plain_password="x",
        ssl_cafile="/ca.pem",
        client_id="me",
    )
    assert dotted.addresses == ["a:1", "b:2"]
    assert KafkaSettings.of(dotted) == dotted
    assert KafkaSettings.of(dotted, client_id="you").client_id == "you"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bootstrap": "broker"}, "host:port"),
        ({"bootstrap": ""}, "host:port"),
        ({"bootstrap": "a:1", "security_protocol": "TLS"}, "security_protocol is one of"),
        ({"bootstrap": "a:1", "sasl_mechanism": "PLAIN"}, "needs security_protocol SASL_"),
        ({"bootstrap": "a:1", "ssl_cafile": "ca"}, "needs security_protocol SSL"),
        ({"bootstrap": "a:1", "security_protocol": "SASL_SSL"}, "sasl_mechanism is one of"),
        (
            {"bootstrap": "a:1", "security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"},
            "needs sasl_plain_username",
        ),
        (
            {"bootstrap": "a:1", "security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"},
            "needs sasl_oauth_token_provider",
        ),
        ({"bootstrap": "a:1", "acks": "all"}, "'acks' is no setting"),
        ({"client_id": "x"}, "bootstrap is missing"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(options: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        KafkaSettings.of(options)


async def test_a_certificate_that_is_not_there_is_said() -> None:
    settings = KafkaSettings("a:1", security_protocol="SSL", ssl_cafile="/nowhere/ca.pem")
    with pytest.raises(ConfigurationError, match=r"/nowhere/ca.pem"):
        await settings.client_options()


def test_settings_can_be_sent_to_another_process() -> None:
    settings = KafkaSettings("a:1", security_protocol="SSL", ssl_cafile="/ca.pem")
    assert pickle.loads(pickle.dumps(settings)) == settings
