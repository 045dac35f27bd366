"""Checkpoints survive kills and never pass damage on."""

import dataclasses
import resource
from pathlib import Path

import pytest
import torch

from harness.errors import InputError
from harness.training import checkpoint
from harness.training.checkpoint import Checkpoint

IDENTITY = {"method": "vae", "steps": 40, "data": "abc"}


def example(step: int) -> Checkpoint:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Checkpoint(step, IDENTITY, {"seconds": 1.5}, net.state_dict(), [optimizer.state_dict()])


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    saved = example(7)
    checkpoint.save(tmp_path, saved)
    found = checkpoint.restore(tmp_path, IDENTITY)
    assert found is not None
    assert (found.step, found.notes) == (7, {"seconds": 1.5})
    assert all(torch.equal(found.weights[name], weight) for name, weight in saved.weights.items())
    restored, written = found.optimizers[0]["state"][0], saved.optimizers[0]["state"][0]
    assert all(torch.equal(restored[name], written[name]) for name in ("step", "exp_avg", "exp_avg_sq"))


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10):
        checkpoint.save(tmp_path, example(step))
    assert sorted(path.name.split("-")[1] for path in tmp_path.iterdir()) == ["00000002", "00000010"]


def test_a_changed_byte_anywhere_is_detected_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(tmp_path, example(1))
    newest = checkpoint.save(tmp_path, example(2))
    assert newest
    for path in newest.iterdir():
        content = path.read_bytes()
        for tenth in range(10):
            place = len(content) * tenth // 10
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            found = checkpoint.restore(tmp_path, IDENTITY)
            assert found is not None
            assert found.step == 1
            assert str(path) in capsys.readouterr().err
        path.write_bytes(content[:-1])
        found = checkpoint.restore(tmp_path, IDENTITY)
        assert found is not None
        assert found.step == 1
        path.write_bytes(content)
    found = checkpoint.restore(tmp_path, IDENTITY)
    assert found is not None
    assert found.step == 2


def test_a_checkpoint_of_something_else_is_refused_with_the_difference(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, example(1))
    with pytest.raises(InputError, match="steps is 41, the checkpoint has 40"):
        checkpoint.restore(tmp_path, IDENTITY | {"steps": 41})


def test_what_was_being_written_at_a_kill_is_passed_over_and_cleared_away(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, example(1))
    (tmp_path / ".writing-1").mkdir()
    (tmp_path / ".writing-1" / "weights.safetensors").write_bytes(b"half")
    found = checkpoint.restore(tmp_path, IDENTITY)
    assert found is not None
    assert found.step == 1
    checkpoint.save(tmp_path, dataclasses.replace(example(2)))
    assert not list(tmp_path.glob(".writing-*"))


def test_a_disk_that_takes_no_more_leaves_the_older_one_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(tmp_path, example(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))  # the system refuses larger files
    try:
        assert checkpoint.save(tmp_path, example(2)) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = capsys.readouterr().err
    assert "the checkpoint of step 2 was not written" in said
    assert "that of step 1 stays" in said
    found = checkpoint.restore(tmp_path, IDENTITY)
    assert found is not None
    assert found.step == 1
    assert [path.name.split("-")[1] for path in tmp_path.iterdir()] == ["00000001"]
