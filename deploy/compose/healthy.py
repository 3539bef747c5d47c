"""A health check: whether a component of Airflow beats, as the API server sees it; exit code 0 or 1.

``python healthy.py scheduler|triggerer|dag_processor``. A request instead of ``airflow jobs check``, which takes five
seconds of a core each time. Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request

API = os.environ.get("CALIB_HEALTH_URL", "http://api-server:8080/api/v2/monitor/health")


def healthy(component: str, address: str = API) -> bool:
    """Whether it is healthy.

    :raises OSError: the API server does not answer.
    """
    with urllib.request.urlopen(address, timeout=8) as answer:  # noqa: S310 - a service of the same network
        return bool(json.load(answer)[component]["status"] == "healthy")


if __name__ == "__main__":
    sys.exit(0 if healthy(sys.argv[1]) else 1)
