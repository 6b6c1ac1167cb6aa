"""Weights to be given to others: the same flow comes back from one file, which is whole, and says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from running import run

from nflows_woodbury.checkpoint import load_flow, open_run
from nflows_woodbury.evaluation.likelihood import bits_per_dim
from nflows_woodbury.evaluation.publishing import publish
from nflows_woodbury.train.saved import read_run


@pytest.fixture(scope="module")
def published(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "tiny.safetensors"
    assert run("publish", whole, "--out", path, "--licence", "CC0 and public domain") == 0
    return path


def test_the_flow_comes_back_bit_for_bit_with_what_the_run_knew(whole: Path, published: Path) -> None:
    (flow, saved), (expected, known) = load_flow(published), load_flow(whole)
    assert flow.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(flow.state_dict()[name], value) for name, value in expected.state_dict().items())
    assert saved["flow"]["mixing"] == known["flow"]["mixing"] and saved["steps"] == known["steps"] == 12
    assert saved["licence"] == "CC0 and public domain" and not flow.training
    assert published.stat().st_mode == published.with_suffix(".md").stat().st_mode  # others may read both
    there, here = open_run(published), open_run(whole)
    assert there.change is None and torch.equal(there.source.test.images, here.source.test.images)


def test_commands_take_the_file_as_they_take_the_run(whole: Path, published: Path, tmp_path: Path) -> None:
    for source, name in ((whole, "run.png"), (published, "file.png")):
        assert run("sample", source, "--num", 4, "--out", tmp_path / name) == 0
    assert (tmp_path / "run.png").read_bytes() == (tmp_path / "file.png").read_bytes()


def test_the_card_has_the_result_and_the_licence_and_no_place(whole: Path, published: Path) -> None:
    text = published.with_suffix(".md").read_text()
    (record,) = json.loads((whole / "result.json").read_text())
    for part in ("CC0 and public domain", f"{record['bits_per_dim']:.3f} bits/dim", "12 steps", "load_flow"):
        assert part in text
    assert str(Path.home()) not in text and str(whole) not in text


def test_of_the_images_place_only_the_name_is_kept(whole: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    (copy / "checkpoints").mkdir(parents=True)
    (copy / "result.json").write_bytes((whole / "result.json").read_bytes())
    checkpoint = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint["nflows_woodbury"]["training"]["data"] = "/home/somebody/private/pictures"
    torch.save(checkpoint, copy / "checkpoints" / "last.ckpt")
    publish(copy, tmp_path / "other.safetensors", licence="mine")
    assert b"somebody" not in (tmp_path / "other.safetensors").read_bytes()
    assert load_flow(tmp_path / "other.safetensors")[1]["training"]["data"] == "pictures"


def test_the_weights_beside_the_docs_are_small_and_those_of_their_card() -> None:
    path = Path(__file__).parents[2] / "docs" / "weights" / "photos-woodbury.safetensors"
    run = open_run(path)
    assert path.stat().st_size < 2_000_000 and run.change is None
    bits = bits_per_dim(run.flow, run.source.test).mean()
    assert float(bits) == pytest.approx(run.saved["result"]["bits_per_dim"], abs=2e-3)
    assert f"{run.saved['result']['bits_per_dim']:.3f} bits/dim" in path.with_suffix(".md").read_text()


def test_what_cannot_be_published_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"out must end in \.safetensors, got '.*tiny\.ckpt'"):
        publish(whole, tmp_path / "tiny.ckpt", licence="CC0")
    with pytest.raises(ValueError, match="licence must say what the images may be used for"):
        publish(whole, tmp_path / "tiny.safetensors", licence=" ")
    with pytest.raises(FileNotFoundError, match=r"result\.json is missing: train the run to its end"):
        publish(whole / "checkpoints", tmp_path / "tiny.safetensors", licence="CC0")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_cut_short_or_of_another_program_is_refused(published: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    other, cut = tmp_path / "other.safetensors", tmp_path / "cut.safetensors"
    save_file({"weight": torch.ones(2)}, other)
    cut.write_bytes(published.read_bytes()[:-100])
    for path in (other, cut):
        with pytest.raises(ValueError, match=rf"{path.name} must hold the weights of a flow"):
            load_flow(path)


def test_training_does_not_go_on_from_it(published: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="holds weights without the optimizer's state; name the folder of the run"):
        read_run(published)
    assert run("train", "--resume", published) == 2 and "optimizer's state" in capsys.readouterr().err
