"""Commands on files start quickly and everywhere: they import neither kopf nor the client of Kubernetes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.unit.cli.samples import V14

OPERATOR = Path(__file__).parents[3] / "operator"
PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from serin.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    print("exit status", ended.code)
print("imported", sorted({"kopf", "kubernetes", "prometheus_client"} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "command",
    [
        "prompt lint triage.yaml",
        "prompt list -f triage.yaml",
        "prompt diff ./triage.yaml ./triage.yaml",
        "prompt render triage -f triage.yaml --var customer=ACME --var ticket=1",
        "evidence",
    ],
)
def test_command_on_files_imports_no_client_of_kubernetes(command: str, tmp_path: Path) -> None:
    (tmp_path / "triage.yaml").write_text(yaml.safe_dump(V14))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(OPERATOR), *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )

    assert done.stdout.splitlines()[-2:] == ["exit status 0", "imported []"], done.stderr
