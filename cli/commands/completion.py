"""Completion for bash, zsh or fish: prints a script for your shell's start-up file.

bash: source <(headway completion bash); zsh: the same, after compinit; fish: headway completion fish | source
"""

from __future__ import annotations

import argparse

from headway.cli import render


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway completion`."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to write for")


def main(args: argparse.Namespace) -> int:
    """Print the script."""
    from headway.cli.completion import script

    render.out(script(args.shell))
    return 0
