"""Names of built things, and the messages of builders that cannot build."""

import subprocess
import sys
from pathlib import Path

import pytest

from model_server.cpu import install as installer
from model_server.cpu.install import (
    LOCKS,
    NEEDED_BYTES,
    InstallError,
    add_vllm_metadata,
    ask_for_tiles,
    check_machine,
    environment_key,
    find_uv,
    run,
)
from model_server.light.image import ImageBuildError, find_go
from model_server.tiny.__main__ import main as tiny_main
from model_server.tiny.__main__ import model_key
from sandbox.host import machine


def test_an_environment_key_changes_with_lock_interpreter_and_machine() -> None:
    keys = {
        environment_key("3.11.2", "x86_64", [b"a", b"b"]),
        environment_key("3.11.3", "x86_64", [b"a", b"b"]),
        environment_key("3.11.2", "aarch64", [b"a", b"b"]),
        environment_key("3.11.2", "x86_64", [b"a", b"c"]),
    }
    assert len(keys) == 4


def test_every_locked_requirement_has_a_hash() -> None:
    for lock in LOCKS:
        entries = lock.read_text().replace("\\\n", " ").splitlines()
        pinned = [line for line in entries if line and not line.startswith("#")]
        assert pinned
        assert [line.split()[0] for line in pinned if "==" not in line or "--hash=sha256:" not in line] == []


@pytest.mark.parametrize(
    ("system", "machine", "free", "advice"),
    [
        ("Darwin", "arm64", NEEDED_BYTES, "use a Linux x86_64 machine"),
        ("Linux", "aarch64", NEEDED_BYTES, "use a Linux x86_64 machine"),
        ("Linux", "x86_64", NEEDED_BYTES - 1, "set SERIN_CACHE to a directory on a larger disk"),
    ],
)
def test_unsuitable_machine_is_rejected_with_advice(system: str, machine: str, free: int, advice: str) -> None:
    with pytest.raises(InstallError, match=advice):
        check_machine(system, machine, free)


def test_suitable_machine_is_accepted() -> None:
    check_machine("Linux", "x86_64", NEEDED_BYTES)


def test_uv_variable_takes_precedence_over_path(tmp_path: Path) -> None:
    for folder in ("named", "searched"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "uv").touch(mode=0o755)
    environ = {"PATH": str(tmp_path / "searched")}
    assert find_uv(environ) == str(tmp_path / "searched" / "uv")
    assert find_uv({**environ, "UV": str(tmp_path / "named" / "uv")}) == str(tmp_path / "named" / "uv")


@pytest.mark.parametrize("environ", [{"PATH": ""}, {"PATH": "", "UV": "/nowhere/uv"}], ids=["unset", "wrong"])
def test_missing_uv_gives_advice(environ: dict[str, str]) -> None:
    with pytest.raises(InstallError, match="pip install uv"):
        find_uv(environ)


def test_missing_go_gives_advice() -> None:
    with pytest.raises(ImageBuildError, match="set GO to its path"):
        find_go({"PATH": "", "GO": "/nowhere/go"})


def test_kernel_library_is_installed_only_if_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(machine, "install", lambda packages, _note: asked.append(packages))
    monkeypatch.setattr(installer, "LIBRARY", "libc.so.6")
    installer.provide_libraries()
    assert asked == []
    monkeypatch.setattr(installer, "LIBRARY", "libnobody-has-it.so.1")
    installer.provide_libraries()
    assert asked == [["libnuma1"]]


def test_hanging_step_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(installer, "STEP_SECONDS", 0.2)
    with pytest.raises(InstallError, match="was stopped after"):
        run("[1/1] hangs", (sys.executable, "-c", "import time; time.sleep(60)"))


def test_step_prints_duration_or_quotes_output_on_failure(capsys: pytest.CaptureFixture[str]) -> None:
    run("[1/1] works", (sys.executable, "-c", "print('unheard')"))
    said = capsys.readouterr().out
    assert "[1/1] works" in said
    assert "done in" in said
    assert "unheard" not in said
    with pytest.raises(InstallError, match="no network today"):
        run("[1/1] fails", (sys.executable, "-c", "raise SystemExit('no network today')"))


def test_vllm_metadata_names_cpu_platform(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    add_vllm_metadata(tmp_path)
    (metadata,) = packages.glob("vllm-*+cpu.dist-info/METADATA")
    assert "\nName: vllm\nVersion: 0.32.0+cpu\n" in metadata.read_text()


def test_every_python_asks_for_the_tiles_of_amx(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    ask_for_tiles(tmp_path)
    permission = (
        "import ctypes; n = ctypes.c_ulong(); ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(n)); print(n.value)"
    )
    asked = f"import site; site.addsitedir({str(packages)!r}); {permission}"
    before, after = (
        int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for code in (permission, asked)
    )
    has_amx = " amx_tile " in Path("/proc/cpuinfo").read_text()
    assert after == before | (1 << 18 if has_amx else 0)


def test_model_key_depends_on_steps_and_seed() -> None:
    assert len({model_key(600, 7), model_key(300, 7), model_key(600, 8)}) == 3
    assert model_key(600, 7) == model_key(600, 7)


def test_cached_model_needs_no_torch_and_is_printed_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERIN_CACHE", str(tmp_path))
    model = tmp_path / "models" / model_key(5, 7)
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    assert tiny_main(["--steps", "5"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(model)
    assert tiny_main(["--steps", "5", "--out", str(tmp_path / "copy")]) == 0
    assert (tmp_path / "copy" / "config.json").read_text() == "{}"


def test_training_without_torch_names_python_to_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERIN_CACHE", str(tmp_path))
    # None makes the import fail as if the package were not installed.
    monkeypatch.setitem(sys.modules, "torch", None)
    assert tiny_main(["--steps", "5"]) == 1
    assert "model_server.cpu.install" in capsys.readouterr().err
