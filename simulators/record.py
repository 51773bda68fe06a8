"""What a run of a scenario leaves behind: the truth, what was raised, and the signals to draw them with."""

import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from simulators import truth as truths
from simulators.city import City, Moment
from simulators.plot import Signals
from simulators.score import Raised
from simulators.truth import Truth

TRUTH, RAISED, SIGNALS = "truth.json", "raised.json", "signals.npz"

SAMPLES = 5000
"""So many times are kept of each signal at most: more cannot be drawn."""

FEW = 60
"""Of so many points all are kept; of more, only those of units and instruments to which something happens."""


class RecordError(ValueError):
    """The folder holds no record of a run, or a broken one; the text says which file and why."""


class Sampler:
    """Keeps what the instruments showed, as far as it is to be drawn."""

    def __init__(self, city: City) -> None:
        touched = city.touched() if len(city.points) > FEW else set(range(len(city.points)))
        self._kept = sorted(touched)
        self._points = [city.points[place] for place in self._kept]
        steps = city.scenario.lasts // city.scenario.step + 1
        self._every = -(-steps // SAMPLES)
        self._seen = 0
        self._times: list[int] = []
        self._values: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []

    def take(self, moment: Moment) -> None:
        if self._seen % self._every == 0:
            self._times.append(moment.time)
            self._values.append(moment.readout.values[self._kept])
        self._seen += 1

    def save(self, path: Path) -> None:
        np.savez_compressed(
            path,
            time=np.array(self._times, np.int64),
            values=np.array(self._values).reshape(len(self._times), len(self._kept)),
            enterprise=[point.code for point in self._points],
            point=[point.id for point in self._points],
            unit=[point.columns["engineering_unit"] for point in self._points],
        )


def write_truth(folder: Path, truth: Truth) -> None:
    """Put the truth of a run into a folder, which is known by it from then on."""
    (folder / TRUTH).write_bytes(truths.encode(truth))


def write(folder: Path, raised: Iterable[Raised], sampler: Sampler) -> None:
    """Put what came of it beside the truth."""
    (folder / RAISED).write_bytes(msgspec.json.format(msgspec.json.encode(list(raised))) + b"\n")
    sampler.save(folder / SIGNALS)


def read(folder: Path) -> tuple[Truth, Sequence[Raised], Signals]:
    """The record of a run.

    Raises:
        RecordError: there is none, or it is broken.
    """
    path = folder / TRUTH
    try:
        truth = truths.decode(path.read_bytes())
        path = folder / RAISED
        raised = msgspec.json.decode(path.read_bytes(), type=list[Raised])
        path = folder / SIGNALS
        with path.open("rb") as file, np.load(file) as data:
            keys = list(zip(data["enterprise"].tolist(), data["point"].tolist(), strict=True))
            signals = Signals(
                data["time"],
                dict(zip(keys, data["values"].T, strict=True)),
                dict(zip(keys, data["unit"].tolist(), strict=True)),
            )
    except FileNotFoundError:
        raise RecordError(f"{path} is not there: `fenghuo simulate run` writes it") from None
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror or error}") from error
    except (msgspec.MsgspecError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RecordError(f"{path}: {error}") from error
    return truth, raised, signals
