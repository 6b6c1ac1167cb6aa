"""Help texts wait for nothing heavy, and shells complete what they name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nflows_woodbury
from nflows_woodbury.cli.main import COMMANDS, main

HEAVY = "torch", "nflows", "normflows", "pytorch_lightning", "numpy", "PIL", "tensorboard"
LIGHT = [
    "--help",
    "--version",
    "presets",
    "presets show celeba-hq64-woodbury",
    *(f"{name} --help" for name in COMMANDS),
]


@pytest.mark.parametrize("words", LIGHT)
def test_help_waits_for_nothing_heavy(words: str) -> None:
    code = f"""
import sys
from nflows_woodbury.cli.main import main
try:
    status = main({words.split()})
except SystemExit as end:
    status = end.code
assert not status
print(*sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout and not set(HEAVY) & set(done.stderr.split())


def test_help_names_every_command_and_the_flags_of_train(capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in (
        (["--help"], [f"    {name}" for name in COMMANDS]),
        (["train", "--help"], [f"--{flag} " for flag in ("data", "mixing", "max-steps", "devices", "out", "resume")]),
    ):
        with pytest.raises(SystemExit):
            main(words)
        text = capsys.readouterr().out
        assert all(part in text for part in expected)


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert not end.value.code and capsys.readouterr().out == f"{nflows_woodbury.__version__}\n"


COMPLETED = {
    "nflows-woodbury tr": ["train"],
    "nflows-woodbury train --mix": ["--mixing"],
    "nflows-woodbury train --mixing wood": ["woodbury"],
    "nflows-woodbury train --preset celeba-hq64-me": ["celeba-hq64-me-woodbury"],
    "nflows-woodbury evaluate my": ["my-run"],
    "nflows-woodbury presets sh": ["show"],
}


def test_bash_completes_commands_flags_names_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab", reason="shell completion is written by shtab")
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "my-run").mkdir()
    for line, expected in COMPLETED.items():
        words = " ".join(f"'{word}'" for word in line.split())
        code = f"source {script}; COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 )); COMP_TYPE=9; "
        code += "$(complete -p nflows-woodbury | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); echo ${COMPREPLY[@]}"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
        assert done.stdout.split() == expected, line


def test_zsh_gets_a_script_and_other_shells_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab", reason="shell completion is written by shtab")
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", "zsh"])
    assert not end.value.code and capsys.readouterr().out.startswith("#compdef nflows-woodbury")
    with pytest.raises(SystemExit) as end:
        main(["--print-completion", "fish"])
    assert end.value.code == 2 and "must be one of bash, zsh, got 'fish'" in capsys.readouterr().err
