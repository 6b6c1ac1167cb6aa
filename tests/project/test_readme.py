"""What people copy from the README runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scripts import run_script

README = Path(__file__).parents[2] / "README.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number: int, tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPETS[number])
    run_script(tmp_path / "snippet.py", [], tmp_path)


def test_there_are_snippets_for_nflows_and_for_whole_flows() -> None:
    assert len(SNIPPETS) >= 2 and any("CompositeTransform" in s for s in SNIPPETS)


def test_contributing_s_example_layer_obeys_its_law() -> None:
    import torch
    from torch import nn

    from nflows_woodbury.checks import check_channel_inputs, check_image_shape
    from nflows_woodbury.transforms.base import LinearTransform

    text = (README.parent / "CONTRIBUTING.md").read_text()
    code = re.findall(r"```python\n(   class.*?)   ```", text, re.DOTALL)[0]
    names = {"torch": torch, "nn": nn, "LinearTransform": LinearTransform}
    names |= {"check_channel_inputs": check_channel_inputs, "check_image_shape": check_image_shape}
    exec("\n".join(line[3:] for line in code.splitlines()), names)
    layer, inputs = names["ChannelScale"]((3, 4, 5)), torch.randn(2, 3, 4, 5)
    nn.init.constant_(layer.log_scale, 0.5)
    outputs, logabsdet = layer(inputs)
    torch.testing.assert_close(outputs, inputs * torch.tensor(0.5).exp())
    torch.testing.assert_close(logabsdet, torch.full((2,), 60 * 0.5))
    torch.testing.assert_close(layer.inverse(outputs)[0], inputs)
