"""Image sets: scikit-learn's digits, and the standard files of MNIST, Fashion-MNIST and CIFAR-10.

A data set is a frozen dataclass that reads itself; nothing is ever downloaded.
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from experiments.lab.run import Settings


class Images(NamedTuple):
    """Training and test images with their labels."""

    x_train: Tensor  # (n, channels, height, width) in [0, 1]
    y_train: Tensor  # (n,) int64
    x_test: Tensor  # (m, channels, height, width) in [0, 1]
    y_test: Tensor  # (m,) int64

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.x_train.shape[1:]
        return channels, height, width

    def held_out(self, fraction: float = 0.2, seed: int = 0) -> Images:
        """The training images alone, split once more: the test part is then a validation part.

        The true test images do not appear in the answer, so that nothing can be chosen on them.
        """
        kept, held = stratified(self.y_train, fraction, seed)
        return Images(
            self.x_train[kept], self.y_train[kept], self.x_train[held], self.y_train[held]
        )

    def first(self, limit: int | None) -> Images:
        """At most `limit` training images, a stratified choice (None: all of them)."""
        if limit is None or limit >= len(self.y_train):
            return self
        _, chosen = stratified(self.y_train, limit / len(self.y_train), seed=0)
        return self._replace(x_train=self.x_train[chosen], y_train=self.y_train[chosen])


def stratified(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of a (rest, part) split in which every class gives `fraction` of its members."""
    rest, part = train_test_split(
        np.arange(len(labels)), test_size=fraction, stratify=labels.numpy(), random_state=seed
    )
    return torch.from_numpy(rest), torch.from_numpy(part)


class DataSet(Settings):
    """Which images; `load` reads them."""

    def files(self) -> tuple[Path, ...]:
        """The files that are read; none for a set that comes with a package."""
        return ()

    @abstractmethod
    def load(self) -> Images:
        """Read the files; raises FileNotFoundError that lists what is expected and where."""


@dataclass(frozen=True)
class Digits(DataSet):
    """1797 handwritten digits of 8x8 pixels that come with scikit-learn; 75/25, split seed 0."""

    def load(self) -> Images:  # noqa: D102
        return _digits()


@cache
def _digits() -> Images:
    raw = load_digits()
    x = torch.tensor(raw.images / 16.0, dtype=torch.float32).unsqueeze(1)
    y = torch.tensor(raw.target, dtype=torch.int64)
    train, test = stratified(y, 0.25, seed=0)
    return Images(x[train], y[train], x[test], y[test])


_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Mnist(DataSet):
    """MNIST from its four IDX files in `folder`, gzipped or not; `limit` training images."""

    folder: str
    limit: int | None = None

    def load(self) -> Images:  # noqa: D102
        return _idx_set("MNIST", Path(self.folder)).first(self.limit)

    def files(self) -> tuple[Path, ...]:  # noqa: D102
        return tuple(path for path in _idx_files(Path(self.folder)) if path)


@dataclass(frozen=True)
class FashionMnist(DataSet):
    """Fashion-MNIST: the same four file names as MNIST, so keep them in a folder of their own."""

    folder: str
    limit: int | None = None

    def load(self) -> Images:  # noqa: D102
        return _idx_set("Fashion-MNIST", Path(self.folder)).first(self.limit)

    def files(self) -> tuple[Path, ...]:  # noqa: D102
        return tuple(path for path in _idx_files(Path(self.folder)) if path)


@dataclass(frozen=True)
class Cifar10(DataSet):
    """CIFAR-10 from its binary files (`data_batch_1.bin` ...) or its Python ones in `folder`."""

    folder: str
    limit: int | None = None

    def load(self) -> Images:  # noqa: D102
        return _cifar10(Path(self.folder)).first(self.limit)

    def files(self) -> tuple[Path, ...]:  # noqa: D102
        return tuple(sorted(Path(self.folder).rglob("*_batch*")))


SETS: dict[str, type[DataSet]] = {
    "digits": Digits,
    "mnist": Mnist,
    "fashion": FashionMnist,
    "cifar10": Cifar10,
}


def data_set(name: str, folder: str | None, limit: int | None = None) -> DataSet:
    """The data set of that name; every set but the digits needs the folder of its files.

    They are read once, so that what is missing or damaged is said before anything runs.

    Raises:
        ValueError: unknown name, no folder for a set that is read from files, damaged files.
        FileNotFoundError: files that are missing.
    """
    if name not in SETS:
        raise ValueError(f"data must be one of {', '.join(SETS)}; got {name!r}")
    if name == "digits":
        return Digits()
    if folder is None:
        raise ValueError(f"--data {name} needs --data-dir, the folder that holds its files")
    found = SETS[name](folder, limit)  # type: ignore[call-arg]
    _read_once(found)
    return found


@cache
def _read_once(data: DataSet) -> None:
    data.load()


# ---------------------------------------------------------------------------- IDX (MNIST)


def read_idx(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An IDX file of unsigned bytes: two zero bytes, type, number of axes, sizes, data.

    Raises:
        ValueError: another type, or a length that its header contradicts.
    """
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        raw = file.read()
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise ValueError(
            f"{path} is no IDX file of unsigned bytes (starts with {raw[:4].hex(' ')})"
        )
    axes = raw[3]
    shape = struct.unpack_from(f">{axes}I", raw, 4)
    data = np.frombuffer(raw, np.uint8, offset=4 + 4 * axes)
    if data.size != np.prod(shape):
        raise ValueError(f"{path} promises {shape} bytes and holds {data.size}")
    return data.reshape(shape)


def _idx_files(folder: Path) -> list[Path | None]:
    return [
        next((p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()), None)
        for stem in _IDX_FILES
    ]


def _idx_set(name: str, folder: Path) -> Images:
    found = _idx_files(folder)
    if None in found:
        raise FileNotFoundError(
            f"{name} needs these four IDX files in {folder} (each may end in .gz): "
            + ", ".join(
                f"{s} ({'found' if f else 'MISSING'})"
                for s, f in zip(_IDX_FILES, found, strict=True)
            )
        )
    x_train, y_train, x_test, y_test = (read_idx(path) for path in found if path)
    for x, y in ((x_train, y_train), (x_test, y_test)):
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y):
            raise ValueError(
                f"{name} in {folder}: images {x.shape} and labels {y.shape} do not fit together"
            )
    return Images(
        _pixels(x_train[:, None]), _labels(y_train), _pixels(x_test[:, None]), _labels(y_test)
    )


# ---------------------------------------------------------------------------- CIFAR-10

_CIFAR_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_CIFAR_RECORD = 1 + 3 * 32 * 32


def _cifar10(folder: Path) -> Images:
    for inner in (folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"):
        for suffix, reader in ((".bin", _cifar_binary), ("", _cifar_pickle)):
            names = [f"{stem}{suffix}" for stem in (*_CIFAR_TRAIN, "test_batch")]
            if all((inner / name).is_file() for name in names):
                parts = [reader(inner / name) for name in names]
                x_train = np.concatenate([x for x, _ in parts[:-1]])
                y_train = np.concatenate([y for _, y in parts[:-1]])
                x_test, y_test = parts[-1]
                return Images(_pixels(x_train), _labels(y_train), _pixels(x_test), _labels(y_test))
    raise FileNotFoundError(
        f"CIFAR-10 needs, in {folder} or in its subfolder cifar-10-batches-bin or "
        "cifar-10-batches-py, either the binary files data_batch_1.bin ... data_batch_5.bin and "
        "test_batch.bin, or the Python files data_batch_1 ... data_batch_5 and test_batch; "
        f"found: {', '.join(sorted(p.name for p in folder.glob('*'))[:12]) or 'nothing'}"
    )


def _cifar_binary(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % _CIFAR_RECORD:
        raise ValueError(
            f"{path} holds {raw.size} bytes, not a multiple of {_CIFAR_RECORD} "
            "(one label and 3x32x32 pixels)"
        )
    records = raw.reshape(-1, _CIFAR_RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


class _ArraysOnly(pickle.Unpickler):
    """Unpickles plain containers and numpy arrays; a file that asks for more is refused."""

    _allowed = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(
                f"refused to load {module}.{name}: a CIFAR-10 batch holds arrays only"
            )
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _cifar_pickle(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    batch = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise ValueError(f"{path} is no CIFAR-10 batch: it lacks the keys 'data' and 'labels'")
    data, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    if data.ndim != 2 or data.shape[1] != _CIFAR_RECORD - 1 or len(labels) != len(data):
        raise ValueError(
            f"{path}: data {data.shape} and labels {labels.shape}, expected (n, 3072) and (n,)"
        )
    return data.reshape(-1, 3, 32, 32).astype(np.uint8), labels


def _pixels(x: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(x.astype(np.float32) / 255.0)


def _labels(y: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(y.astype(np.int64))
