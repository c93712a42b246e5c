"""Settings: every variable is read as what it is, and nonsense is a sentence."""

import pytest

from serin.errors import SettingsError
from serin.settings import Settings


def test_without_any_variable_the_defaults_hold_and_the_pod_gives_the_name() -> None:
    assert Settings.from_environment({"HOSTNAME": "serin-abc"}) == Settings(identity="serin-abc")


def test_each_kind_of_value_is_read() -> None:
    settings = Settings.from_environment(
        {
            "SERIN_IDENTITY": "me",
            "SERIN_WORKERS": "8",
            "SERIN_COLLECT_INTERVAL": "2.5",
            "SERIN_WATCH_NAMESPACES": "one, two,",
            "SERIN_REQUESTS_BACKEND": "{service}.{namespace}:{port}",
            "SERIN_DEFAULT_IMAGE": "",
        }
    )
    assert settings == Settings(
        identity="me",
        workers=8,
        collect_interval=2.5,
        watch_namespaces=("one", "two"),
        requests_backend="{service}.{namespace}:{port}",
    )


def test_secrets_are_read_and_never_shown() -> None:
    settings = Settings.from_environment({"SERIN_PROMETHEUS_PASSWORD": "hush", "SERIN_PROMETHEUS_BEARER_TOKEN": "hush"})
    assert (settings.prometheus_password, settings.prometheus_bearer_token) == ("hush", "hush")
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("SERIN_WORKERS", "4.5", "set it to a whole number"),
        ("SERIN_WORKERS", "0", "must be above zero"),
        ("SERIN_COLLECT_INTERVAL", "often", "set it to a number"),
        ("SERIN_COLLECT_INTERVAL", "-1", "must be above zero"),
        ("SERIN_COLLECT_INTERVAL", "nan", "must be above zero"),
        ("SERIN_REQUEST_TIMEOUT", "inf", "must be above zero"),
        ("SERIN_SETTLE_SECONDS", "-1", "must be 0 seconds or more"),
        ("SERIN_LOG_LEVEL", "trace", "use debug, info, warning or error"),
        ("SERIN_REQUESTS_BACKEND", "{pod}", "build it from {namespace}, {service} and {port} only"),
        ("SERIN_REQUESTS_BACKEND", "{", "build it from {namespace}, {service} and {port} only"),
        ("SERIN_SCRAPE_INTERVAL", "0", "must be above zero"),
        ("SERIN_EVIDENCE_LAG", "-1", "must be 0 seconds or more"),
        ("SERIN_LEASE_DURATION", "1", "must be 5 seconds or more"),
        ("SERIN_REVISION_LABEL", "my-label", "set it to letters, digits and underscores"),
        ("SERIN_PROBE_PORT", "70000", "must be a port"),
        ("SERIN_MODEL_SERVER_PULL_POLICY", "Sometimes", "use Always, IfNotPresent or Never"),
    ],
)
def test_nonsense_is_a_sentence_that_names_the_variable(variable: str, value: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=variable) as error:
        Settings.from_environment({variable: value})
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")
