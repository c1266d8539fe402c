"""The switch of gRPC's core: set for versions that know it, and never against the user."""

import os

import pytest
from resnet_server.transport import grpc_core


@pytest.mark.parametrize(
    ("installed", "expected"), [("1.85.3", grpc_core.OLDER_LISTENER), ("1.86.0", None), ("1.62.1", None), ("odd", None)]
)
def test_only_versions_that_were_measured_get_the_switch(installed: str, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(grpc_core.SWITCH, raising=False)
    monkeypatch.setattr(grpc_core, "version", lambda _: installed)
    grpc_core.choose_listener()
    assert os.environ.get(grpc_core.SWITCH) == expected
    monkeypatch.delenv(grpc_core.SWITCH, raising=False)


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(grpc_core.SWITCH, "")
    grpc_core.choose_listener()
    assert os.environ[grpc_core.SWITCH] == ""
