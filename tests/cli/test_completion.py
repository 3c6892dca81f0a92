"""Completion scripts, tried in the shells that are here."""

import shutil
import subprocess
from pathlib import Path

import pytest

from headway.cli.completion import known, script
from headway.cli.main import COMMANDS


def test_it_knows_every_command_and_option() -> None:
    """It is made from the parsers, so nothing is forgotten."""
    found = known()
    assert {name for group in COMMANDS.values() for name in group} <= set(found)
    assert {"--json", "--status", "--limit", "--help"} <= set(found["runs"].options)
    assert found["runners"].words == ("list", "start", "drain", "resume")
    assert "--slots" in found["runners start"].options


def complete(*words: str) -> list[str]:
    """What bash offers after these words, the last of which is being typed."""
    array = " ".join(f"'{word}'" for word in words)
    last = len(words) - 1
    text = f"{script('bash')}\nCOMP_WORDS=({array}); COMP_CWORD={last}; _headway; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "--noprofile", "--norc", "-c", text], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_completes_commands_actions_and_options() -> None:
    """As a person types."""
    assert complete("headway", "sh") == ["show"]
    assert complete("headway", "runners", "dr") == ["drain"]
    assert complete("headway", "runners", "start", "--sl") == ["--slots"]
    assert "--limit" in complete("headway", "runs", "--")
    assert complete("headway", "completion", "") == ["bash", "zsh", "fish", "--help", "-h"]


def test_bash_completes_files_where_a_command_takes_one(tmp_path: Path) -> None:
    """A backup may have any name; an option is still an option."""
    (tmp_path / "b.tar").touch()
    for command in ("backup", "restore", "run"):
        assert complete("headway", command, str(tmp_path / "b.t")) == [str(tmp_path / "b.tar")]
    assert complete("headway", "backup", "--fo") == ["--force"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_the_shell_can_read(shell: str) -> None:
    """Checked by the shell itself where it is installed; its commands are in it anywhere."""
    text = script(shell)
    assert all(name in text for name in ("status", "--timeout" if shell != "fish" else "timeout", "drain"))
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=text, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
