"""Right and wrong credentials against a real broker: wrong ones are refused with a reason, and at once."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from aiostream_engine.errors import ConfigurationError, SourceError
from aiostream_engine.kafka.connection import check_connection
from aiostream_engine.kafka.settings import KafkaSettings
from aiostream_engine.testing.kafka.ports import free_ports
from aiostream_engine.testing.kafka_broker import LocalKafka

pytestmark = pytest.mark.kafka

MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


def by_password(kafka: LocalKafka, mechanism: str, **changes: Any) -> KafkaSettings:
    options = {
        "bootstrap": kafka.address("SASL"),
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": kafka.user,
        "sasl_plain_password": kafka.password,
    }
    return KafkaSettings(**(options | changes))


def by_token(kafka: LocalKafka, token: Any) -> KafkaSettings:
    return KafkaSettings(
        kafka.address("SASL"),
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="OAUTHBEARER",
        sasl_oauth_token_provider=token,
    )


def unsecured_token(valid_s: float) -> str:
    claims = {"sub": "alice", "iat": time.time() + min(valid_s, 0) - 60, "exp": time.time() + valid_s}
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join((*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), ""))


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_the_right_password_is_taken(kafka: LocalKafka, mechanism: str) -> None:
    await check_connection(by_password(kafka, mechanism))


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_wrong_password_is_refused_with_the_user_and_without_the_password(
    kafka: LocalKafka, mechanism: str
) -> None:
    """J9"""
    with pytest.raises(ConfigurationError, match="refuses the credentials of 'alice'") as caught:
        await check_connection(by_password(kafka, mechanism, sasl_plain_password="rabbit-hole"))
    assert "rabbit" not in str(caught.value)


async def test_tokens_come_from_functions_and_from_objects(kafka: LocalKafka) -> None:
    class Tokens:
        async def token(self) -> str:
            return unsecured_token(600)

    for given in (Tokens(), Tokens().token, lambda: unsecured_token(600)):
        await check_connection(by_token(kafka, given))


async def test_an_expired_token_is_refused(kafka: LocalKafka) -> None:
    with pytest.raises(ConfigurationError, match="refuses the credentials"):
        await check_connection(by_token(kafka, lambda: unsecured_token(-600)))


async def test_a_certificate_of_the_own_authority_is_believed(kafka: LocalKafka) -> None:
    certificates = kafka.certificates
    await check_connection(
        KafkaSettings(kafka.address("TLS"), security_protocol="SSL", ssl_cafile=certificates.ca)
    )
    await check_connection(
        by_password(
            kafka,
            "SCRAM-SHA-512",
            bootstrap=kafka.address("SASLTLS"),
            security_protocol="SASL_SSL",
            ssl_cafile=certificates.ca,
        )
    )


async def test_a_certificate_of_another_authority_is_not(kafka: LocalKafka) -> None:
    settings = KafkaSettings(
        kafka.address("TLS"), security_protocol="SSL", ssl_cafile=kafka.certificates.other_ca
    )
    with pytest.raises(ConfigurationError, match="certificate that is not believed"):
        await check_connection(settings)


async def test_a_client_proves_itself_by_its_certificate(kafka: LocalKafka) -> None:
    certificates = kafka.certificates
    options = {"security_protocol": "SSL", "ssl_cafile": certificates.ca}
    with pytest.raises(ConfigurationError, match=r"refuses the TLS connection.*ssl_certfile"):
        await check_connection(KafkaSettings(kafka.address("MTLS"), **options))
    options |= {"ssl_certfile": certificates.client_certificate, "ssl_keyfile": certificates.client_key}
    await check_connection(KafkaSettings(kafka.address("MTLS"), **options))


@pytest.mark.parametrize("listener", ["TLS", "SASL"])
async def test_another_protocol_than_the_listeners_is_guessed(kafka: LocalKafka, listener: str) -> None:
    with pytest.raises(SourceError, match="does its listener speak PLAINTEXT"):
        await check_connection(KafkaSettings(kafka.address(listener)))


async def test_one_address_that_answers_is_enough(kafka: LocalKafka) -> None:
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    await check_connection(KafkaSettings(f"{nobody},{kafka.bootstrap}"))
    with pytest.raises(SourceError, match=f"{nobody} cannot be reached"):
        await check_connection(KafkaSettings(nobody))
