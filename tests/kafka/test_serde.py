"""Bytes to values and back, by name and by callables; all can be sent to a worker."""

from __future__ import annotations

import http.server
import io
import json
import pickle
import threading
from collections.abc import Iterator
from typing import TypedDict

import cloudpickle
import pytest

from aiostream_engine.errors import OptionError
from aiostream_engine.kafka.decoding import Decode, refuse_undecodable
from aiostream_engine.kafka.record import KafkaRecord, UndecodableRecord
from aiostream_engine.kafka.serde import SERDES, Avro, Json, deserializer, serializer

VALUES = {"bytes": b"\x00\xff", "str": "grüße", "json": {"a": [1, None]}, "msgpack": {"a": [1, b"x"]}}
SCHEMA = {"type": "record", "name": "Visit", "fields": [{"name": "page", "type": "string"}]}


@pytest.mark.parametrize("name", SERDES)
def test_every_named_serde_gives_back_what_it_was_given(name):
    assert deserializer(name)(serializer(name)(VALUES[name])) == VALUES[name]


def test_a_function_is_its_own_serde():
    assert deserializer(int)(b"12") == 12
    assert serializer(str.encode)("a") == b"a"


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(OptionError, match="msgpack"):
        deserializer("xml")


def test_bytes_are_not_made_from_other_types_by_a_guess():
    with pytest.raises(TypeError, match="str"):
        serializer("bytes")("text")


class Visit(TypedDict):
    page: str


def test_json_is_checked_against_a_type():
    decode = pickle.loads(pickle.dumps(Json(Visit)))
    assert decode(b'{"page": "/"}') == {"page": "/"}
    with pytest.raises(ValueError, match="page"):
        decode(b'{"page": 5}')


def avro(record: dict, schema: dict = SCHEMA) -> bytes:
    import fastavro

    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(dict(schema)), record)
    return out.getvalue()


def test_avro_with_a_given_schema_has_no_header():
    decode = pickle.loads(pickle.dumps(Avro(SCHEMA)))
    assert decode(avro({"page": "/"})) == {"page": "/"}
    assert Avro(json.dumps(SCHEMA))(avro({"page": "/"})) == {"page": "/"}


class Registry(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 - a handler is made for each request

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"schema": json.dumps(SCHEMA)}).encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def registry() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Registry.asked.clear()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_avro_asks_a_registry_once_for_the_schema_of_a_number(registry):
    decode = Avro(registry=registry)
    data = b"\0\0\0\0\x05" + avro({"page": "/"})
    assert [decode(data), decode(data)] == [{"page": "/"}] * 2
    assert Registry.asked == ["/schemas/ids/5"]


def test_avro_reads_old_records_by_a_newer_schema(registry):
    newer = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "seconds", "type": "int", "default": 0}]}
    decode = Avro(newer, registry=registry)
    assert decode(b"\0\0\0\0\x05" + avro({"page": "/"})) == {"page": "/", "seconds": 0}


def test_avro_without_the_header_of_a_registry_is_refused(registry):
    with pytest.raises(ValueError, match="registered schema"):
        Avro(registry=registry)(avro({"page": "/"}))


def test_avro_needs_a_schema_or_a_registry():
    with pytest.raises(OptionError):
        Avro()


RECORD = KafkaRecord("t", 0, 5, 1, b"k", b"7")


@pytest.mark.parametrize(
    ("projection", "expected"),
    [("value", 7), ("pair", ("k", 7)), ("record", RECORD._replace(key="k", value=7)), (len, 7)],
)
def test_a_step_decodes_and_projects_by_callables(projection, expected):
    decode = cloudpickle.loads(cloudpickle.dumps(Decode(projection, "str", int)))
    assert decode(RECORD) == expected


def test_nulls_are_not_decoded():
    assert Decode("value", "bytes", int)(RECORD._replace(value=None)) is None


def test_an_undecodable_record_raises_what_its_decoding_raised():
    with pytest.raises(UnicodeDecodeError):
        refuse_undecodable("bytes", "str", UndecodableRecord(*RECORD._replace(value=b"\xff")))
    assert refuse_undecodable("bytes", "str", "a value") == "a value"
