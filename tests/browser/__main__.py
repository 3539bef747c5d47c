"""Makes the pictures of Airflow's UI in the docs anew: ``python -m tests.browser``, or ``make pictures``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.browser.person import browsing
from tests.browser.pictures import FOLDER, draw, prepare
from tests.cache import UnavailableError, say
from tests.integration.harness import Installation


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder))
        try:
            installation.start()
            prepare(installation)
            with browsing(installation.airflow.url) as person:
                for file in draw(person, FOLDER):
                    say(f"{file}: {file.stat().st_size} bytes")
        except UnavailableError as error:
            say(str(error))
            return 1
        finally:
            installation.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
