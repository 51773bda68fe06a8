"""The option --broker, which several commands have."""

import typer
from pydantic import ValidationError

from fenghuo.settings import Broker


def broker(url: str) -> Broker:
    """The broker at ``mqtt://HOST:PORT``. Raises BadParameter for anything else."""
    try:
        return Broker(url=url)
    except ValidationError as error:
        expected = "expected mqtt://HOST:PORT; user and password are options of their own"
        raise typer.BadParameter(expected, param_hint="--broker") from error
