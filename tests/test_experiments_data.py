"""Image sets: the digits' split, and the standard files of the others, written small."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.lab.run import key
from experiments.tasks.data import Cifar10, Digits, FashionMnist, Mnist, data_set, read_idx
from experiments.tasks.networks import MLP
from experiments.tasks.runs import Train
from experiments.tasks.training import Recipe


def idx(array: np.ndarray) -> bytes:
    """An IDX file as its specification writes it."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, *, zipped: bool = False, train: int = 40, test: int = 10) -> dict:
    rng = np.random.default_rng(0)
    made = {}
    for stem, n in (("train", train), ("t10k", test)):
        made[f"{stem}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28))
        made[f"{stem}-labels-idx1-ubyte"] = np.arange(n) % 10
    for name, array in made.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return made


def write_cifar(folder: Path, *, binary: bool, per_file: int = 4) -> dict:
    rng = np.random.default_rng(1)
    made = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels = rng.integers(0, 256, (per_file, 3072), dtype=np.uint8)
        labels = rng.integers(0, 10, per_file)
        made[name] = pixels, labels
        if binary:
            records = np.concatenate([labels[:, None].astype(np.uint8), pixels], 1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            batch = {b"data": pixels, b"labels": labels.tolist(), b"batch_label": b"x"}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return made


def test_digits_are_split_by_class_and_fixed() -> None:
    images = Digits().load()
    assert images.shape == (1, 8, 8)
    assert (len(images.y_train), len(images.y_test)) == (1347, 450)
    assert images.x_train.min() == 0 and images.x_train.max() == 1
    whole = torch.bincount(torch.cat([images.y_train, images.y_test]))
    assert (torch.bincount(images.y_test) - whole * 0.25).abs().max() <= 1
    assert torch.equal(Digits().load().y_test, images.y_test)


def test_held_out_part_comes_from_the_training_images_alone() -> None:
    images = Digits().load()
    inner = images.held_out()
    assert len(inner.y_train) + len(inner.y_test) == len(images.y_train)
    rows = {tuple(x.flatten().tolist()) for x in images.x_train}
    assert all(tuple(x.flatten().tolist()) in rows for x in inner.x_test)
    kept = {tuple(x.flatten().tolist()) for x in inner.x_train}
    assert not any(tuple(x.flatten().tolist()) in kept for x in inner.x_test)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", [Mnist, FashionMnist])
def test_idx_files_are_read(tmp_path: Path, kind: type, zipped: bool) -> None:
    made = write_mnist(tmp_path, zipped=zipped)
    images = kind(str(tmp_path)).load()
    assert images.shape == (1, 28, 28)
    expected = made["train-images-idx3-ubyte"] / 255.0
    np.testing.assert_allclose(images.x_train[:, 0].numpy(), expected, rtol=1e-6)
    assert images.y_test.tolist() == made["t10k-labels-idx1-ubyte"].tolist()


def test_limit_takes_a_stratified_choice(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    images = Mnist(str(tmp_path), limit=20).load()
    assert torch.bincount(images.y_train).tolist() == [2] * 10
    assert len(images.y_test) == 10


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("inner", ["", "cifar-10-batches"])
def test_cifar_files_are_read(tmp_path: Path, binary: bool, inner: str) -> None:
    folder = tmp_path / (f"{inner}-{'bin' if binary else 'py'}" if inner else "")
    made = write_cifar(folder, binary=binary)
    images = Cifar10(str(tmp_path)).load()
    assert images.x_train.shape == (20, 3, 32, 32)
    pixels, labels = made["data_batch_2"]
    expected = pixels.reshape(-1, 3, 32, 32) / 255.0
    np.testing.assert_allclose(images.x_train[4:8].numpy(), expected, rtol=1e-6)
    assert images.y_train[4:8].tolist() == labels.tolist()
    assert images.y_test.tolist() == made["test_batch"][1].tolist()


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"")
    with pytest.raises(FileNotFoundError) as error:
        Mnist(str(tmp_path)).load()
    text = str(error.value)
    assert "train-images-idx3-ubyte (found)" in text
    assert "t10k-labels-idx1-ubyte (MISSING)" in text and str(tmp_path) in text
    with pytest.raises(FileNotFoundError, match=r"data_batch_1\.bin .* train-images-idx3-ubyte"):
        Cifar10(str(tmp_path)).load()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(idx(np.zeros((3, 4)))[:-1])
    with pytest.raises(ValueError, match=r"promises \(3, 4\) bytes and holds 11"):
        read_idx(path)
    path.write_bytes(b"\x00\x00\x0d\x01aaaa")
    with pytest.raises(ValueError, match="no IDX file of unsigned bytes"):
        read_idx(path)
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(3)))
    with pytest.raises(ValueError, match="do not fit together"):
        Mnist(str(tmp_path)).load()
    write_cifar(tmp_path, binary=True)
    (tmp_path / "data_batch_3.bin").write_bytes(b"abc")
    with pytest.raises(ValueError, match="not a multiple of 3073"):
        Cifar10(str(tmp_path)).load()


class Evil:
    """Pickles into a call of the shell."""

    def __reduce__(self) -> tuple:
        import os

        return os.system, ("touch /tmp/should-not-exist",)


def test_a_pickle_that_asks_for_code_is_refused(tmp_path: Path) -> None:
    write_cifar(tmp_path, binary=False)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Evil()}))
    with pytest.raises(pickle.UnpicklingError, match="holds arrays only"):
        Cifar10(str(tmp_path)).load()


def test_what_files_hold_is_part_of_the_key(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    run = Train(Mnist(str(tmp_path)), MLP(), Recipe())
    first = key(run)
    assert key(run) == first
    write_mnist(tmp_path, train=50)
    assert key(run) != first


def test_data_set_by_name(tmp_path: Path) -> None:
    assert data_set("digits", None) == Digits()
    with pytest.raises(FileNotFoundError, match="MISSING"):  # before anything runs
        data_set("fashion", str(tmp_path), 100)
    write_mnist(tmp_path)
    assert data_set("fashion", str(tmp_path), 100) == FashionMnist(str(tmp_path), 100)
    with pytest.raises(ValueError, match="digits, mnist, fashion, cifar10; got 'svhn'"):
        data_set("svhn", None)
    with pytest.raises(ValueError, match="--data mnist needs --data-dir"):
        data_set("mnist", None)
