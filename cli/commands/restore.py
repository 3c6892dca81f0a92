"""Make a new home of a backup: $HEADWAY_HOME, which must not hold any state yet.

Every byte is checked before anything takes its place, and a restore that fails leaves the home as it was. The next
command starts the service there: the tables are made from the log, and unfinished runs go on with new attempts. With
HEADWAY_NATS_URL, the log goes into that server, which must have none. A config.yml that is in the home already stays.

Restore only what you trust as you trust a program: what its unfinished runs execute is in the backup.
"""

from __future__ import annotations

import argparse
import os

from headway.cli import render
from headway.cli.arguments import add_json
from headway.cli.text import clean, count
from headway.core.home import find_home


def arguments(parser: argparse.ArgumentParser) -> None:
    """What may follow `headway restore`."""
    parser.add_argument("file", metavar="FILE", help="a file that 'headway backup' wrote")
    add_json(parser)


def main(args: argparse.Namespace) -> int:
    """Restore, and say up to where the log goes."""
    import asyncio
    from pathlib import Path

    from headway.cli.progress import Progress
    from headway.cli.restoring import Interrupted, Restoring

    home = Path(find_home(os.environ))
    progress = Progress()
    restoring = Restoring(home, os.environ, lambda text: progress.show(text, stays=" of " not in text))
    try:
        found = asyncio.run(restoring.run_until_signal(Path(os.path.abspath(args.file))))
    except Interrupted as interrupted:
        return 128 + interrupted.number
    finally:
        progress.close()
    if args.json:
        render.data(found)
        return 0
    held = f"{count(int(found['as_of']), 'event')} and {count(int(found['blobs']), 'blob')}"
    render.out(f"restored {held} to {clean(home)}, as they were at {clean(found['created'])}")
    return 0
