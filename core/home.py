"""Where this user's Headway lives. The command line needs only this of the configuration, so it imports nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping

from headway.core.errors import UsageError


def find_home(environ: Mapping[str, str]) -> str:
    """`$HEADWAY_HOME`, else `headway` in the XDG state directory: an absolute path that need not exist."""
    if given := environ.get("HEADWAY_HOME"):
        return os.path.abspath(os.path.expanduser(given))
    # The XDG standard has relative paths ignored.
    state = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return os.path.join(state, "headway")
    user = environ.get("HOME") or os.path.expanduser("~")
    if not os.path.isabs(user):
        raise UsageError("there is no home directory to keep state in", next="set HEADWAY_HOME to a directory")
    return os.path.join(user, ".local", "state", "headway")
