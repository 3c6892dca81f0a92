"""Run the service in the foreground, until Ctrl-C or `headway down`.

Nothing needs this: a command that needs the service starts it. It is for watching it, and for service managers.
"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway up`."""


def main(args: argparse.Namespace) -> int:
    """Become the service."""
    from headway.cli.service import main as be_service

    return be_service()
