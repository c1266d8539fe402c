"""The handlers that are compared all answer, each in a process of its own."""

import shutil

import grpc
import pytest
from click.testing import CliRunner
from resnet_bench.cli import main
from resnet_bench.handlers.command import answer_bytes, request_of_one, started
from resnet_bench.handlers.ways import WAYS

METHOD = "/inference.GRPCInferenceService/ModelInfer"


@pytest.mark.parametrize("name", WAYS)
def test_every_way_answers_with_as_many_bytes_as_are_counted_on(name: str) -> None:
    with started(name) as (_, port), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
        assert len(call(request_of_one().SerializeToString(), timeout=10)) == answer_bytes(WAYS[name])


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load (package nghttp2-client) is not on this machine")
def test_the_comparison_has_a_row_for_each() -> None:
    result = CliRunner().invoke(main, ["handlers", "--in-flight", "2", "--duration", "0.2", "--repeats", "1"])
    assert result.exit_code == 0, result.output
    assert all(name in result.output for name in WAYS)
