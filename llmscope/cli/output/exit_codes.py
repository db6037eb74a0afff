"""The exit codes of all commands: docs/command-line.md and the man page list them from here."""

from __future__ import annotations

EXIT_CODES = (
    (0, "done; diff: the same within the tolerance; compare: within the limits"),
    (
        1,
        "failed, with one line `error: …` on stderr; diff: they differ; compare: a limit is "
        "exceeded; the reader of stdout is gone",
    ),
    (
        2,
        "wrong use: an option, an argument or two that do not go together, told before anything "
        "is loaded; diff and compare: any failure",
    ),
    (129, "ended by SIGHUP, as when its terminal closes"),
    (130, "ended by SIGINT, which is ctrl+c"),
    (143, "ended by SIGTERM"),
)
"""Each code, and when a command ends with it."""
