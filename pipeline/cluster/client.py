"""Ray's job submission client, and everything that it raises in one line."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pipeline.actors.placement import KNOCK_TIMEOUT_S, bring_token
from schemas.errors import InputError, JobFailedError, PlacementError

DEFAULT_PORT = 8265
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"  # Ray's own
_EXPECTED = f"expected the http address of a cluster's dashboard, such as http://HOST:{DEFAULT_PORT}"


class UnreachableError(PlacementError):
    """No cluster answers, or no longer."""


def dashboard_address(given: str) -> str:
    """The address with its scheme and without a slash at its end.

    Raises:
        InputError: an address of another kind, or with a password, which would come to stand in files.
    """
    address = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(address)
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_sound = False
    if not is_sound or given == "auto":
        raise InputError(f"--address {given.rpartition('@')[2]}: {_EXPECTED}")
    if parts.username is not None:
        host = parts.netloc.rpartition("@")[2]
        raise InputError(f"--address {host}: holds a user's name or password; a token goes into RAY_AUTH_TOKEN")
    return address.rstrip("/")


def connect(address: str) -> Any:
    """Ray's `JobSubmissionClient` for a cluster that runs the same version of Ray.

    Raises:
        UnreachableError: no dashboard answers there. PlacementError: it is one of another version.
    """
    _knock(address)
    for name in (ADDRESS_VARIABLE, "RAY_ADDRESS"):  # which Ray would let go before what we ask for
        os.environ.pop(name, None)
    bring_token()
    logging.disable(logging.INFO)  # Ray's client tells of every package and connection
    import ray
    from ray.job_submission import JobSubmissionClient

    try:
        with talking(address):
            client = JobSubmissionClient(address)
    except JobFailedError as error:
        raise UnreachableError(_no_dashboard(address, "what answers is something else")) from error
    found = client._server_ray_version or ray.__version__
    if found != ray.__version__:
        raise PlacementError(
            f"--address {address}: the cluster runs Ray {found}, this machine Ray {ray.__version__}; "
            f"pip install 'ray[default]=={found}' here, or bring the cluster to {ray.__version__}"
        )
    return client


@contextmanager
def talking(address: str) -> Iterator[None]:
    """Put what goes wrong between us and a dashboard into one line.

    Raises:
        UnreachableError: it does not answer. InputError: it does not know the job, or not us. JobFailedError: the rest.
    """
    import aiohttp
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout, aiohttp.ClientError, OSError) as error:
        raise UnreachableError(_no_dashboard(address, type(error).__name__)) from error
    except AuthenticationError as error:
        raise InputError(
            f"--address {address}: the cluster asks for a token, or for another one; set RAY_AUTH_TOKEN"
        ) from error
    except (
        RuntimeError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:  # what answers, or how, is not as Ray's client expects
        raise JobFailedError(f"--address {address}: {_first_line(error)}") from error


def _knock(address: str) -> None:
    """Ray's client itself waits without an end."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=KNOCK_TIMEOUT_S).close()
    except OSError as error:
        raise UnreachableError(_no_dashboard(address, error.strerror or str(error))) from error


def _no_dashboard(address: str, reason: str) -> str:
    return (
        f"--address {address}: no dashboard of a Ray cluster answers there ({reason}); "
        f"it is the head's port {DEFAULT_PORT}, of a Ray installed as ray[default]"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:500] if lines else type(error).__name__
