"""Pictures show what their names say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from smallflows import random_images

from nflows_woodbury.evaluation.pictures import image_grid, png_bytes, save_png


class TestFiles:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_saved_pixels_are_the_image(self, channels: int, tmp_path: Path) -> None:
        image = random_images(1, (channels, 5, 7))[0]
        path = save_png(image, str(tmp_path / "new" / "image.png"), zoom=3)
        with Image.open(path) as read:
            pixels = np.asarray(read).reshape(15, 21, channels)
        assert np.array_equal(pixels[1::3, 2::3], image.movedim(0, -1).numpy())
        assert [p.name for p in path.parent.iterdir()] == ["image.png"]

    def test_other_images_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match=r"image must be a uint8 tensor, got torch.float32"):
            png_bytes(torch.zeros(3, 4, 4))
        with pytest.raises(ValueError, match=r"image must have shape \(1, h, w\) or \(3, h, w\), got \(2, 4, 4\)"):
            save_png(random_images(1, (2, 4, 4))[0], tmp_path / "two.png")
        with pytest.raises(ValueError, match="zoom must be a positive integer, got 0"):
            save_png(random_images(1)[0], tmp_path / "none.png", zoom=0)
        assert not list(tmp_path.iterdir())


class TestPictures:
    def test_grids_put_images_row_by_row(self) -> None:
        images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 3, 4, 6) * 10
        grid = image_grid(images, columns=3, gap=1)
        assert grid.shape == (3, 2 * 5 + 1, 3 * 7 + 1)
        assert [int(grid[0, 2 + 5 * (i // 3), 3 + 7 * (i % 3)]) for i in range(6)] == [0, 10, 20, 30, 40, 255]
        assert (grid[:, 0] == 255).all() and (grid[:, :, 0] == 255).all()
