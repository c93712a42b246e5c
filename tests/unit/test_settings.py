"""Settings: every variable is parsed by type, and an invalid value is one sentence."""

import pytest
from pydantic.fields import FieldInfo

from serin.errors import SettingsError
from serin.settings import Must, Settings

BACKEND = "a template with no other placeholders than {namespace}, {service} and {port}"
LABEL = "a Prometheus label name: letters, digits and underscores, not beginning with a digit"


def test_no_variables_give_defaults_and_identity_from_hostname() -> None:
    assert Settings.from_environment({"HOSTNAME": "serin-abc"}) == Settings(identity="serin-abc")


def test_each_type_of_value_is_parsed() -> None:
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


def test_secrets_are_read_but_not_in_repr() -> None:
    settings = Settings.from_environment({"SERIN_PROMETHEUS_PASSWORD": "hush", "SERIN_PROMETHEUS_BEARER_TOKEN": "hush"})
    assert (settings.prometheus_password, settings.prometheus_bearer_token) == ("hush", "hush")
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value", "must"),
    [
        ("SERIN_WORKERS", "4.5", "a whole number of at least 1"),
        ("SERIN_WORKERS", "0", "a whole number of at least 1"),
        ("SERIN_COLLECT_INTERVAL", "often", "a finite number of seconds above 0"),
        ("SERIN_COLLECT_INTERVAL", "-1", "a finite number of seconds above 0"),
        ("SERIN_COLLECT_INTERVAL", "nan", "a finite number of seconds above 0"),
        ("SERIN_REQUEST_TIMEOUT", "inf", "a finite number of seconds above 0"),
        ("SERIN_SETTLE_SECONDS", "-1", "a finite number of at least 0 seconds"),
        ("SERIN_LOG_LEVEL", "trace", "debug, info, warning or error"),
        ("SERIN_REQUESTS_BACKEND", "{pod}", BACKEND),
        ("SERIN_REQUESTS_BACKEND", "{", BACKEND),
        ("SERIN_REQUESTS_BACKEND", "{}", BACKEND),
        ("SERIN_REQUESTS_BACKEND", "{service.name}", BACKEND),
        ("SERIN_SCRAPE_INTERVAL", "0", "a finite number of seconds above 0"),
        ("SERIN_EVIDENCE_LAG", "-1", "a finite number of at least 0 seconds"),
        ("SERIN_LEASE_DURATION", "1", "a finite number of at least 5 seconds"),
        ("SERIN_REVISION_LABEL", "my-label", LABEL),
        ("SERIN_NAMESPACE_LABEL", "1st", LABEL),
        ("SERIN_PROBE_PORT", "70000", "a port number from 1 to 65535"),
        ("SERIN_MODEL_SERVER_PULL_POLICY", "Sometimes", "Always, IfNotPresent or Never"),
    ],
)
def test_invalid_value_is_one_sentence_with_variable_and_value(variable: str, value: str, must: str) -> None:
    with pytest.raises(SettingsError, match=variable) as error:
        Settings.from_environment({variable: value})
    assert str(error.value) == f"{variable} must be {must}, but it is {value!r}."


def test_every_constrained_setting_says_what_it_must_be() -> None:
    def constrained(field: FieldInfo) -> bool:
        return field.annotation not in {str, tuple[str, ...]} or bool(field.metadata)

    def says(field: FieldInfo) -> bool:
        return any(isinstance(each, Must) for each in field.metadata)

    lists = {"watch_namespaces"}  # every text is a list of namespaces
    fields = {name: field for name, field in Settings.model_fields.items() if name not in lists}
    assert [name for name, field in fields.items() if constrained(field) and not says(field)] == []


def test_sentence_about_a_secret_does_not_contain_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings.model_fields["log_level"], "repr", False)
    with pytest.raises(SettingsError) as error:
        Settings.from_environment({"SERIN_LOG_LEVEL": "hush"})
    assert str(error.value) == "SERIN_LOG_LEVEL must be debug, info, warning or error."
