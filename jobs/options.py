"""Options that several commands share."""

from collections.abc import Callable

import click


def _check_endpoint(_: click.Context, __: click.Parameter, url: str | None) -> str | None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url!r} begins with neither http:// nor https://")
    return url


endpoint_url = click.option(
    "--endpoint-url",
    metavar="URL",
    callback=_check_endpoint,
    help="S3 endpoint, where it is not AWS's own. [default: AWS_ENDPOINT_URL]",
)
profile = click.option("--profile", metavar="NAME", help="AWS profile with the credentials. [default: AWS_PROFILE]")
image_root = click.option(
    "--image-root",
    metavar="URI",
    help="Folder that the file names of a COCO file lie below. [default: found beside it]",
)


def storage(command: Callable) -> Callable:
    """How to reach object storage."""
    return endpoint_url(profile(command))
