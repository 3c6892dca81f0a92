"""The configuration: `path` where the file is, `show` what holds and where it comes from, `check` whether it is right.

A flag wins over HEADWAY_* in the environment, that over the file, the file over the default.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from headway.cli import render
from headway.cli.arguments import add_json
from headway.cli.lists import print_table
from headway.cli.render import Cell
from headway.core.errors import HeadwayError
from headway.core.home import find_home


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway config`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, words in (
        ("path", "print where the file is, or would be"),
        ("show", "print every value and where it comes from"),
        ("check", "say what is wrong with it; 2 if something is"),
    ):
        add_json(actions.add_parser(name, help=words, description=words))


def main(args: argparse.Namespace) -> int:
    """Do what was named; none of it needs the service."""
    if args.action == "path":
        path = os.path.join(find_home(os.environ), "config.yml")
        if args.json:
            render.data({"path": path, "exists": os.path.exists(path)})
        else:
            render.out(path)
        return 0
    return _show(as_json=args.json) if args.action == "show" else _check(as_json=args.json)


def _show(*, as_json: bool) -> int:
    from headway.core import config

    home = Path(find_home(os.environ))
    found = config.load(home, os.environ)
    path = str(config.config_path(home))
    if as_json:
        settings = [{"key": one.key, "value": one.value, "origin": one.origin} for one in found.settings()]
        render.data({"path": path, "digest": found.digest, "settings": settings})
        return 0
    rows: list[list[Cell]] = []
    for one in found.settings():
        value = ", ".join(one.value) if isinstance(one.value, list) else str(one.value)
        rows.append([one.key, value, ("dim", one.origin)])
    print_table(("KEY", "VALUE", "FROM"), rows)
    return 0


def _check(*, as_json: bool) -> int:
    from headway.core import config

    home = Path(find_home(os.environ))
    path = str(config.config_path(home))
    try:
        found = config.load(home, os.environ)
    except HeadwayError as error:
        if not as_json:
            raise
        render.data({"path": path, "ok": False, "error": error.record()})
        return error.exit_code
    if as_json:
        render.data({"path": path, "ok": True, "digest": found.digest})
    else:
        there = "is right" if os.path.exists(path) else "does not exist; the defaults hold"
        render.out(f"{path} {there}")
    return 0
