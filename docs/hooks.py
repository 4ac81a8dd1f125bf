"""What a build of the documentation makes besides its pages: the gallery, a leaderboard over the reference results."""

import logging
from pathlib import Path
from typing import Any

from prunebench.quiet import quiet_libraries
from prunebench.report.site.gather import gather
from prunebench.report.site.write import write_site

REFERENCE = Path(__file__).resolve().parent.parent / "results" / "reference"
_LOG = logging.getLogger("mkdocs.prunebench")


def on_post_build(config: Any, **_: Any) -> None:
    """Write the leaderboard, and a report of each folder, beside the pages."""
    with quiet_libraries():
        write_site(
            gather([REFERENCE], _LOG.info), Path(config.site_dir) / "leaderboard", "Reference results", reports=True
        )
