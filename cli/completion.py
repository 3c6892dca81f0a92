"""Completion scripts, made from the parsers of the commands, so that they cannot say anything else."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Final, NamedTuple

from headway.cli.arguments import Parser
from headway.cli.main import COMMANDS

TAKES_FILE: Final = ("run", "init", "backup", "restore")
"""Commands that are followed by a file of any name."""


class Known(NamedTuple):
    """What can follow a command: words of its own, options, and options that take a value."""

    help: str
    words: tuple[str, ...]
    options: tuple[str, ...]


def known() -> dict[str, Known]:
    """Every command with what may follow it; a command with actions has them as `runners list`."""
    found: dict[str, Known] = {}
    for group in COMMANDS.values():
        for name, words in group.items():
            module = import_module(f"headway.cli.commands.{name}")
            parser = Parser(prog=f"headway {name}")
            module.arguments(parser)
            _collect(name, words, parser, found)
    return found


def _collect(name: str, words: str, parser: argparse.ArgumentParser, found: dict[str, Known]) -> None:
    choices: list[str] = []
    options: list[str] = []
    for action in parser._actions:
        options.extend(action.option_strings)
        if not action.option_strings and action.choices:
            choices.extend(map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            for inner, subparser in action.choices.items():
                _collect(f"{name} {inner}", "", subparser, found)
    found[name] = Known(words, tuple(choices), tuple(sorted(options)))


def script(shell: str) -> str:
    """The script for bash, zsh or fish."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](known())


def _cases(commands: dict[str, Known]) -> str:
    lines = []
    for name, one in commands.items():
        follow = " ".join((*one.words, *one.options))
        lines.append(f'        "{name}") words="{follow}" ;;')
    return "\n".join(lines)


def _bash(commands: dict[str, Known]) -> str:
    top = " ".join(name for name in commands if " " not in name)
    return f"""\
# Completion of headway for bash.
_headway() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words="" before="${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{top} --help --version" -- "$word"))
        return
    fi
    [ "$COMP_CWORD" -eq 2 ] && before="${{COMP_WORDS[1]}}"
    case "$before" in
{_cases(commands)}
        *) case "${{COMP_WORDS[1]}}" in
{_cases({name: one for name, one in commands.items() if " " not in name})}
        esac ;;
    esac
    case "${{COMP_WORDS[1]}}:$word" in
        {"|".join(f"{name}:-*" for name in TAKES_FILE)}) ;;
        {"|".join(f"{name}:*" for name in TAKES_FILE)}) COMPREPLY=($(compgen -f -- "$word")); return ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o filenames -F _headway headway"""


def _zsh(commands: dict[str, Known]) -> str:
    top = "\n".join(
        f"        '{name}:{one.help.replace(chr(39), '').replace(':', '')}'"
        for name, one in commands.items()
        if " " not in name
    )
    return f"""\
#compdef headway
# Completion of headway for zsh.
_headway() {{
    local -a commands
    local words_after="" before="${{words[2]}} ${{words[3]}}"
    commands=(
{top}
    )
    if (( CURRENT == 2 )); then
        _describe 'command' commands
        return
    fi
    (( CURRENT == 3 )) && before="${{words[2]}}"
    case "$before" in
{_cases(commands).replace("words=", "words_after=")}
        *) case "${{words[2]}}" in
{_cases({name: one for name, one in commands.items() if " " not in name}).replace("words=", "words_after=")}
        esac ;;
    esac
    compadd -- ${{=words_after}}
    [[ "${{words[2]}}" == ({"|".join(TAKES_FILE)}) ]] && _files
}}
compdef _headway headway"""


def _fish(commands: dict[str, Known]) -> str:
    lines = ["# Completion of headway for fish.", "complete -c headway -f"]
    for name, one in commands.items():
        if " " in name:
            continue
        words = one.help.replace("'", "")
        lines.append(f"complete -c headway -n __fish_use_subcommand -a {name} -d '{words}'")
        if name in TAKES_FILE:
            lines.append(f"complete -c headway -n '__fish_seen_subcommand_from {name}' -F")
        for word in one.words:
            lines.append(f"complete -c headway -n '__fish_seen_subcommand_from {name}' -a {word}")
        inner = [other for at, other in commands.items() if at.startswith(f"{name} ")]
        for option in sorted({option for each in (one, *inner) for option in each.options}):
            flag = f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"
            lines.append(f"complete -c headway -n '__fish_seen_subcommand_from {name}' {flag}")
    return "\n".join(lines)
