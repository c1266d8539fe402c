"""LogSettings and TraceSetting, by each of Triton's clients, and what of them is refused."""

import asyncio
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
from in_process import running_app
from resnet_server.app import App
from tritonclient.utils import InferenceServerException

Ask = Callable[..., dict[str, Any]]
DEFAULTS = {"log_error": True, "log_warning": True, "log_info": True, "log_verbose_level": 0, "log_file": "", "log_format": "default"}


@pytest.fixture(scope="module", params=["queue", "asyncio"])
def app(request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    try:
        with running_app(repository, tmp_path_factory.mktemp("plans"), transport=request.param, open_admin=True) as running:
            yield running
    finally:
        root.setLevel(level)


@pytest.fixture(params=["grpc", "aio", "http"])
def ask(request: pytest.FixtureRequest, app: App) -> Iterator[Ask]:
    """Calls a method of a client by its name; what it answers, in the form of REST."""
    if request.param == "http":
        with tritonclient.http.InferenceServerClient(f"127.0.0.1:{app.http_port}") as client:
            yield lambda name, *given: getattr(client, name)(*given)
        return
    if request.param == "grpc":
        with tritonclient.grpc.InferenceServerClient(app.grpc_address) as client:
            yield lambda name, *given: plain(getattr(client, name)(*given))
        return

    def in_a_loop(name: str, *given: Any) -> dict[str, Any]:
        async def call() -> Any:
            async with tritonclient.grpc.aio.InferenceServerClient(app.grpc_address) as client:
                return await getattr(client, name)(*given)

        return plain(asyncio.run(call()))

    yield in_a_loop


def plain(answer: Any) -> dict[str, Any]:
    found = {}
    for name, setting in answer.settings.items():
        if hasattr(setting, "value"):
            found[name] = list(setting.value) if name == "trace_level" else setting.value[0]
        else:
            found[name] = getattr(setting, setting.WhichOneof("parameter_choice"))
    return found


def logged(caplog: pytest.LogCaptureFixture) -> set[str]:
    """The levels of which a record comes through to the log."""
    caplog.clear()
    logger = logging.getLogger("resnet_server.somewhere")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logger.log(level, "said")
    return {record.levelname for record in caplog.records if record.message == "said"}


def test_the_log_is_turned_while_the_server_runs_and_back(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    assert ask("get_log_settings") == DEFAULTS
    assert ask("update_log_settings", {"log_verbose_level": 1, "log_info": False}) == {
        **DEFAULTS,
        "log_verbose_level": 1,
        "log_info": False,
    }
    assert logged(caplog) == {"DEBUG", "WARNING", "ERROR", "CRITICAL"}
    silent = {"log_verbose_level": 0, "log_warning": False, "log_error": False, "log_file": ""}
    assert ask("update_log_settings", silent)["log_error"] is False
    assert logged(caplog) == set()
    assert ask("update_log_settings", dict.fromkeys(DEFAULTS)) == DEFAULTS
    assert logged(caplog) == {"INFO", "WARNING", "ERROR", "CRITICAL"}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"log_file": "/tmp/x"}, "settings.log_file: '/tmp/x'; expected '', it is not changed while the server runs"),  # noqa: S108
        ({"log_format": "ISO8601"}, "settings.log_format: 'ISO8601'; expected 'default'"),
        ({"log_verbose_level": 2}, "settings.log_verbose_level: 2; expected 0 or 1"),
        ({"log_colour": True}, "settings.log_colour: is unknown; expected some of log_error, log_warning, log_info"),
        ({"log_info": False, "log_file": "x"}, "settings.log_file: 'x'; expected ''"),
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_is_changed(settings: dict[str, Any], text: str, ask: Ask) -> None:
    with pytest.raises(InferenceServerException) as error:
        ask("update_log_settings", settings)
    assert text in str(error.value)
    assert str(error.value.status()) in ("StatusCode.INVALID_ARGUMENT", "400")
    assert ask("get_log_settings") == DEFAULTS


def test_trace_settings_are_what_they_are(ask: Ask) -> None:
    settings = ask("get_trace_settings")
    assert settings["trace_level"] == ["OFF"]
    assert ask("get_trace_settings", "resnet20") == settings
    assert ask("update_trace_settings", None, {"trace_level": ["OFF"], "trace_rate": None}) == settings
    for wrong, text in (
        ({"trace_level": ["TIMESTAMPS"]}, "settings.trace_level: TIMESTAMPS; expected 'OFF', it is not changed while the server runs"),
        ({"trace_speed": ["1"]}, "settings.trace_speed: is unknown; expected some of trace_level"),
    ):
        with pytest.raises(InferenceServerException) as error:
            ask("update_trace_settings", None, wrong)
        assert text in str(error.value)
    with pytest.raises(InferenceServerException, match="'other' is unknown"):
        ask("get_trace_settings", "other")


def test_where_calls_are_traced_the_share_of_them_is_set(repository: Path, tmp_path: Path) -> None:
    spans = tmp_path / "spans"
    given: dict[str, Any] = {"traces": str(spans), "trace_share": 0.01, "open_admin": True}
    with running_app(repository, tmp_path, **given) as app, tritonclient.grpc.InferenceServerClient(app.grpc_address) as client:
        assert "trace" in client.get_server_metadata().extensions
        settings = plain(client.get_trace_settings())
        assert (settings["trace_level"], settings["trace_rate"], settings["trace_file"]) == (["TIMESTAMPS"], "100", str(spans))
        for rate in ("1", "7", "0"):
            assert plain(client.update_trace_settings(None, {"trace_rate": rate}))["trace_rate"] == rate
        assert plain(client.update_trace_settings(None, {"trace_rate": None}))["trace_rate"] == "100"
        for wrong in ("-1", "1.5", "", "10000000000"):
            with pytest.raises(InferenceServerException, match="expected a whole number from 0 to 1000000000: one in so many calls"):
                client.update_trace_settings(None, {"trace_rate": wrong})
        with pytest.raises(InferenceServerException, match="model_name: 'resnet20'; expected it empty"):
            client.update_trace_settings("resnet20", {"trace_rate": "1"})
        with pytest.raises(InferenceServerException, match=r"settings\.trace_level: OFF; expected 'TIMESTAMPS'"):
            client.update_trace_settings(None, {"trace_rate": "1", "trace_level": "OFF"})
        assert plain(client.get_trace_settings())["trace_rate"] == "100"
        client.update_trace_settings(None, {"trace_rate": "1"})
        client.get_model_config("resnet20")
        client.update_trace_settings(None, {"trace_rate": "0"})
        client.get_model_config("resnet20")
    traced = [span["name"] for span in map(json.loads, spans.read_text().splitlines())]
    assert traced.count("ModelConfig") == 1


def test_extensions_list_what_can_be_set(ask: Ask, app: App) -> None:
    with tritonclient.grpc.InferenceServerClient(app.grpc_address) as client:
        listed = client.get_server_metadata().extensions
    assert "logging" in listed
    assert "trace" not in listed


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/v2/logging", {"log_info": 1}, "settings.log_info: is uint32_param; expected bool_param"),
        ("/v2/logging", {"log_info": 1.5}, "settings.log_info: 1.5; expected a string, a number, true, false or null"),
        ("/v2/logging", {"log_verbose_level": -1}, "settings.log_verbose_level: -1; expected a string, a number"),
        ("/v2/logging", [], "body: []; expected a JSON object"),
        ("/v2/trace/setting", {"trace_rate": True}, "settings.trace_rate: true; expected a string, a number, a list of them, or null"),
        ("/v2/models/resnet20/trace/setting", {"trace_rate": 7}, "settings.trace_rate: 7; expected '0'"),
    ],
)
def test_wrong_documents_are_refused(path: str, body: Any, text: str, app: App) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{app.http_port}{path}", json.dumps(body).encode(), method="POST")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request)  # noqa: S310  # http, from the fixture
    assert error.value.code == 400
    assert text in json.load(error.value)["error"]


def test_to_look_is_open_and_to_set_is_closed_unless_somebody_opens_it(repository: Path, tmp_path: Path) -> None:
    with running_app(repository, tmp_path) as app, tritonclient.grpc.InferenceServerClient(app.grpc_address) as client:
        client.get_log_settings()
        client.get_trace_settings()
        for name, given in (("update_log_settings", ({"log_info": True},)), ("update_trace_settings", (None, {"trace_level": "OFF"}))):
            with pytest.raises(InferenceServerException, match="is closed; expected a token of scope 'admin'"):
                getattr(client, name)(*given)
