"""Options that several commands share."""

import re
from collections.abc import Callable
from typing import Any

import click

NODE_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*=[A-Za-z0-9][A-Za-z0-9._-]*")


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

level = click.option(
    "--level",
    type=click.Choice(["leaf", "parent", "top"]),
    help="What labels are rolled up to, with the child's confidence: the classes themselves, the parent of each, "
    "or the parent's parent as far as there are any. [default: as the vocabulary says, else leaf]",
)


class CountOrOff(click.ParamType):
    """A whole number of 2 or more, or `off`."""

    name = "N|off"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == "off":
            return "off"
        if not str(value).isdecimal() or int(str(value)) < 2:
            self.fail(f"found {value!r}, expected a whole number of 2 or more, or off", param, ctx)
        return int(str(value))


def storage(command: Callable) -> Callable:
    """How to reach object storage."""
    return endpoint_url(profile(command))


class _ActorCount(click.IntRange):
    """A whole number, or `auto`, which is as if the option were left out."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        return None if value == "auto" else super().convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:  # noqa: ARG002
        return self.name


def _check_labels(_: click.Context, __: click.Parameter, labels: tuple[str, ...]) -> tuple[str, ...]:
    wrong = [label for label in labels if not NODE_LABEL.fullmatch(label)]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r}: expected KEY=VALUE, such as zone=a")
    return labels


_PLACEMENT = (
    click.option(
        "--actors",
        type=_ActorCount(min=1),
        help="Replicas of the model. [default: auto, one a GPU, or one a CPU core as far as memory allows]",
    ),
    click.option(
        "--gpus-per-actor",
        type=click.FloatRange(min=0),
        help="GPUs of each replica, fractions too; 0 runs on the CPU. [default: 1 where there is a GPU]",
    ),
    click.option(
        "--accelerator-type", metavar="TYPE", help="Only nodes with this GPU, by Ray's name for it, such as A100."
    ),
    click.option(
        "--node-label",
        "node_labels",
        multiple=True,
        metavar="KEY=VALUE",
        callback=_check_labels,
        help="Only nodes of the cluster with this label, see `ray start --labels`. May be given several times.",
    ),
    click.option(
        "--wait-for-nodes",
        is_flag=True,
        help="On a cluster none of whose nodes can hold an actor: wait for one that will be added.",
    ),
    click.option(
        "--address", metavar="ADDR", help="Ray cluster: `auto`, HOST:PORT or ray://... [default: this machine]"
    ),
)


def placement(command: Callable) -> Callable:
    """How many replicas, on which nodes of which cluster."""
    for option in reversed(_PLACEMENT):
        command = option(command)
    return command


def dashboard(*, required: bool) -> Callable:
    """The dashboard's address, under a name of its own: `address` is what a driver connects to."""
    default = "" if required else " [default: where the job, or the last one, was sent]"
    return click.option(
        "--address",
        "dashboard",
        metavar="ADDR",
        required=required,
        envvar="RAY_API_SERVER_ADDRESS",
        help=f"Http address of the cluster's dashboard, such as http://HEAD:8265.{default}",
    )
