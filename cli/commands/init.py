"""Write a commented headway.yml to begin with.

A file that is there is not touched, unless --force says so.
"""

from __future__ import annotations

import argparse
import os

from headway.cli import render
from headway.cli.arguments import add_json
from headway.core.errors import RefusedError, UnavailableError
from headway.core.template import template


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway init`."""
    parser.add_argument("file", metavar="FILE", nargs="?", default="headway.yml", help="default: headway.yml")
    parser.add_argument("--force", action="store_true", help="overwrite the file if there is one")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Write it, never over something by accident."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if args.force else os.O_EXCL)
    try:
        with open(os.open(args.file, flags, 0o666), "w", encoding="utf-8") as stream:
            stream.write(template())
    except FileExistsError:
        raise RefusedError(f"{args.file} exists", next="edit it, or overwrite it with --force") from None
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise UnavailableError(f"cannot write {args.file}: {words}", next="choose another place") from None
    if args.json:
        render.data({"file": args.file})
    else:
        again = "" if args.file == "headway.yml" else f" {args.file}"
        render.out(f"wrote {args.file}; run it with 'headway run{again}'")
    return 0
