"""``nflows-woodbury data``: what training would see, before it starts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nflows_woodbury.cli.drawing import announce, check_png
from nflows_woodbury.cli.flags import Command, add_picking

if TYPE_CHECKING:
    from nflows_woodbury.data.sources import ImageSource

__all__ = ["COMMAND"]

_SHOWN = 64  # images on the contact sheet
_THUMBNAIL = 64  # their side, where images of several sizes are shown without a size


def add_flags(command: argparse.ArgumentParser) -> None:
    """The data, and where the contact sheet goes."""
    command.add_argument("data", metavar="DATA", help="as in train --data: a folder, a file, photos or hf:NAME")
    add_picking(command)
    command.add_argument("--out", metavar="FILE", help="also write a contact sheet as PNG")


def run(data: str, *, out: str | None = None, **picking: Any) -> None:
    """Print the summary, and draw the contact sheet."""
    if out is not None:
        check_png(out)
    from nflows_woodbury.data.summary import describe_source

    picking["test_images"] = picking.get("test_images") or None  # 0 is for the data's own, as in train
    source, note = _open(data, picking)
    for line in [*describe_source(data, source), *note]:
        print(line)
    if out is not None:
        from nflows_woodbury.evaluation.pictures import save_png

        announce("contact sheet:", save_png(_sheet(source), out, drawn=True))


def _open(data: str, picking: dict[str, Any]) -> tuple[ImageSource, list[str]]:
    """The source, and a line where training needs a size that was not given."""
    from nflows_woodbury.data.opening import open_source
    from nflows_woodbury.data.summary import describe_files
    from nflows_woodbury.data.walking import find_images

    try:
        return open_source(data, **picking, say=False), []
    except ValueError as error:
        if "size" not in picking and "give a size" in str(error):
            source = open_source(data, **picking, size=_THUMBNAIL, say=False)
            return source, [f"note       train needs --size, as they are large or of several sizes; here {_THUMBNAIL}"]
        if Path(data).is_dir():
            for line in describe_files(find_images(Path(data))):
                print(line)
        raise


def _sheet(source: ImageSource) -> Any:
    """Some training images in the order of their classes, over their names."""
    import numpy as np

    from nflows_woodbury.data.walking import shown
    from nflows_woodbury.evaluation.colours import pictured
    from nflows_woodbury.evaluation.pictures import captioned

    images = source.batch(0, min(_SHOWN, source.train_size), seed=0)
    if images.labels is not None:
        images = images.take(np.argsort(images.labels.numpy(), kind="stable"))
    names = [""] * len(images) if images.names is None else map(shown, images.names)
    (pictures,) = pictured(images.images)
    return captioned(pictures, ["\n".join(part[:18] for part in name.split("/")[-2:]) for name in names])


COMMAND = Command("print what training would see: how many images, sizes, classes, the split", add_flags, run)
