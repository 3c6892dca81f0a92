"""What `run` and `watch` share: follow a run in the view that suits the terminal, then say how it ended."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from headway.cli import render
from headway.cli.board import EXIT_CODES
from headway.cli.client import Client
from headway.cli.follow import Follower, Left, view_on
from headway.cli.text import clean


def follow_to_exit(client: Client, op: str, request: Mapping[str, Any], *, cancels: bool, as_json: bool) -> int:
    """Follow the op's run; its outcome goes to stdout and becomes the exit code."""
    view = view_on(sys.stderr)
    follower = Follower(client, view, cancels=cancels)
    try:
        outcome = follower.follow(op, request)
    except Left as left:
        run = follower.run or clean(request["run"])
        goes = "goes on without this command" if follower.run else "may have been taken, and then goes on"
        if follower.cancelling or view.board.cancelling:
            goes = "is being cancelled"
        render.say(f"run {run} {goes}; see it with 'headway watch {run}'")
        return left.exit_code
    board = view.board
    if as_json:
        record = client.call("wait", runs=[follower.run], cwd="").get("run") or {}
        render.data({"as_of": record.get("seq_completed") or board.last_seq, "run": record})
    else:
        render.out(board.summary())
        failed = next((line.name for line in board.jobs.values() if line.outcome == "failed"), "")
        if failed:
            render.say(f"see all it printed with 'headway logs {follower.run} {clean(failed)}'")
    return 130 if follower.interrupted else EXIT_CODES.get(outcome, 70)
