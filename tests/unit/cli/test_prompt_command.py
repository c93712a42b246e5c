"""`serin prompt` as a person runs it: golden outputs, exit statuses and messages.

An output that is meant to change rewrites its file when SERIN_GOLDEN=write is set; the diff is then read by a person.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from serin.__main__ import main
from tests.unit.cli.samples import V13, V14, make_prompt, make_user

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = {
    "list": "list -f prompts",
    "list_family_json": "list other -f prompts --json",
    "latest": "latest triage -f prompts",
    "latest_pre": "latest triage --pre -f prompts",
    "show": "show triage@1.4.0 -f prompts",
    "show_yaml": "show triage-1.3.0 -f prompts -o yaml",
    "show_json": "show prompts/other.json -o json",
    "render": "render triage-1.4.0 -f prompts --var customer=ACME --var 'ticket=My card is lost.'",
    "render_request": "render triage-1.3.0 -f prompts --request request.json --model qwen3",
    "render_missing_variable": "render triage-1.4.0 -f prompts --var customer=ACME",
    "render_unknown_variable": "render triage-1.4.0 -f prompts --var costumer=ACME",
    "diff": "diff triage@1.3.0 triage@1.4.0 -f prompts",
    "diff_candidate": "diff triage triage@2.0.0-rc.1 -f prompts",
    "diff_copy": "diff prompts/other.json prompts/other.json",
    "lint": "lint prompts",
    "lint_broken": "lint broken.yaml --max-model-len 20",
    "lint_json": "lint broken.yaml --json",
    "unknown": "show triage@1.4.1 -f prompts",
    "hidden_characters": "show hidden.yaml",
    "import": "import langfuse.json --format langfuse",
    "import_partial": "import partial.prompt --format dotprompt --version 1.0.0",
    "export_langfuse": "export triage-1.4.0 -f prompts --format langfuse",
    "export_prompty": "export triage-1.4.0 -f prompts --format prompty",
    "export_dotprompt": "export triage-1.4.0 -f prompts --format dotprompt",
    "export_mlflow": "export triage-1.4.0 -f prompts --format mlflow",
    "export_refused": "export developer.yaml --format dotprompt",
}
REQUEST = {
    "messages": [{"role": "system", "content": "Be brief."}],
    "prompt_variables": {"ticket": "Hi"},
    "temperature": 1,
}
LANGFUSE = {
    "id": "cm1",
    "name": "triage",
    "version": 7,
    "type": "chat",
    "prompt": [{"role": "system", "content": "You route tickets of {{customer}}."}],
    "config": {"model": "qwen3", "temperature": 0.2},
    "labels": ["production"],
    "tags": [],
    "commitMessage": "Shorter.",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    candidate = make_prompt("2.0.0-rc.1", messages=V14["spec"]["messages"][:1])
    documents = [V13, V14, candidate, make_user("web", "triage-1.3.0", **{"max-model-len": 4096})]
    (prompts / "triage.yaml").write_text(yaml.safe_dump_all(documents, sort_keys=False))
    (prompts / "other.json").write_text(json.dumps(make_prompt("1.0.0", family="other")))
    broken = make_prompt(
        "1.0.0",
        messages=[
            {"role": "system", "content": "You help {{ customer }}, {{ first-name }}."},
            {"role": "user", "content": "Answer in JSON, and never say which model you are."},
        ],
        variables=[{"name": "customer"}, {"name": "ticket"}],
        outputSchema={"$ref": "#/$defs/missing"},
    )
    remote = make_prompt("1.0.0", family="remote", outputSchema={"$ref": "https://example.com/schema.json"})
    typo = make_prompt("1.0", family="typo", tempersture=1)
    (tmp_path / "broken.yaml").write_text(yaml.safe_dump_all([broken, remote, typo], sort_keys=False))
    hidden = make_prompt(messages=[{"role": "system", "content": "\x1b[2JApprove \u202edeined\u202c."}])
    (tmp_path / "hidden.yaml").write_text(yaml.safe_dump(hidden))
    developer = make_prompt(messages=[{"role": "developer", "content": "Be brief."}])
    (tmp_path / "developer.yaml").write_text(yaml.safe_dump(developer))
    (tmp_path / "langfuse.json").write_text(json.dumps(LANGFUSE))
    (tmp_path / "partial.prompt").write_text("---\nname: greeting\n---\nHello {{name}}\n{{>signature}}\n")
    (tmp_path / "request.json").write_text(json.dumps(REQUEST))
    for variable in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], command: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["prompt", *shlex.split(command)])
    printed = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, printed.out, printed.err


@pytest.mark.parametrize("name", COMMANDS)
def test_output_is_as_recorded(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, COMMANDS[name])
    text = f"$ serin prompt {COMMANDS[name]}\n{out}{err}exit status {status}\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("SERIN_GOLDEN") == "write":
        path.write_text(text)

    assert text == path.read_text()


def test_every_recorded_output_has_a_command() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(COMMANDS)


def test_rendered_body_is_json_for_other_programs(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "render prompts/other.json --user Hi")

    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "messages": [{"role": "system", "content": "Triage the ticket."}, {"role": "user", "content": "Hi"}]
    }


def test_show_yaml_can_be_applied_again(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "show triage-1.4.0 -f prompts -o yaml")

    assert yaml.safe_load(out) == V14


def test_standard_input_is_a_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("prompts/other.json").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        status, out, _ = run(capsys, "latest other -f -")

    assert (status, out) == (0, "other-1.0.0\n")


def test_strict_makes_warnings_fail(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    unused = make_prompt(variables=[{"name": "x"}])
    (folder / "unused.yaml").write_text(yaml.safe_dump(unused))

    assert run(capsys, "lint unused.yaml")[0] == 0
    assert run(capsys, "lint unused.yaml --strict")[0] == 1


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("list", "To work without a cluster, give files with -f."),
        ("show 'a/../b' -f prompts", "a/../b cannot be read (No such file or directory); correct the path."),
        ("show 'A B'", "'A B' names no prompt; write the name of a PromptVersion, FAMILY@VERSION, FAMILY or a file."),
        ("list -n ../x", "'../x' is no namespace; write lower case letters, digits and '-'."),
        ("list nothing -f prompts", "There is no prompt nothing in prompts; serin prompt list shows what there is."),
        ("diff prompts/triage.yaml triage -f prompts", "give a file with one, or -f and a name."),
        ("import request.json --format langfuse", "give the answer of GET /api/public/v2/prompts/NAME."),
        ("import none.json --format mlflow", "none.json cannot be read (No such file or directory); correct the path."),
        ("lint request.json", "There is no PromptVersion in request.json; correct the path."),
        ("render triage -f prompts --var x", "--var 'x' has no '='; write --var NAME=VALUE."),
        ("render triage -f prompts --request prompts/triage.yaml", "write valid JSON."),
        (
            "try triage -f prompts --url ftp://x --model m --var ticket=1 --var customer=1",
            "and the key in OPENAI_API_KEY.",
        ),
        (
            "try triage -f prompts --url http://127.0.0.1:1 --model m --var ticket=1 --var customer=1",
            "check --url and that the server runs.",
        ),
    ],
)
def test_failure_is_one_line_with_advice(command: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, command)

    assert (status, out) == (2, "")
    assert err.startswith(f"serin prompt {command.split(maxsplit=1)[0]}: ")
    assert err.endswith(f"{sentence}\n")
    assert err.count("\n") == 1
