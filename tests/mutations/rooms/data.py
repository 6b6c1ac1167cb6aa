"""Faults in data/, and the tests that notice them."""

from table import DATA, rows

# fmt: off
ROWS = [
    *rows("data/sources.py", DATA,
        ("every rank gets the first part", "[rank * part : (rank + 1) * part]", "[:part]"),
        ("ranks take turns", "[rank * part : (rank + 1) * part]", "[rank::ranks]"),
        ("every epoch the same",
         "default_rng([BATCHES, seed, epoch]).permutation", "default_rng([BATCHES, seed]).permutation"),
        ("permutation without the seed", "default_rng([BATCHES, seed, epoch])", "default_rng([BATCHES, 0, epoch])"),
        ("draws with repetition", "epoch]).permutation(count)", "epoch]).integers(count, size=count)"),
        ("end of an epoch begins the same one again",
         "_permutation(count, seed, epoch + 1)", "_permutation(count, seed, epoch)"),
        ("held-out images are trained on", "return rows[np.sort(order[:kept])],", "return rows,"),
        ("held-out images by number in the file", "self._train.take(self._rows[indices])", "self._train.take(indices)"),
        ("held-out images differ from run to run",
         "np.random.default_rng(SPLITS).permutation", "np.random.default_rng().permutation"),
        ("labels of other images", "else self.labels[rows])", "else self.labels[: len(rows)])"),
    ),
    *rows("data/photos.py", DATA,
        ("photos the same in every step", "default_rng([BATCHES, seed, step])", "default_rng([BATCHES, seed])"),
        ("training crops reach the right quarter",
         "photo[:, :, : photo.shape[2] * 3 // 4]", "photo[:, :, : photo.shape[2] * 3 // 4 + 1]"),
        ("test crops reach the left part",
         "photo[:, :, photo.shape[2] * 3 // 4 :]", "photo[:, :, photo.shape[2] * 3 // 4 - 1 :]"),
        ("crops one position short", "panels[number].shape[2] - size + 1)", "panels[number].shape[2] - size)"),
        ("crop from the photo before", 'side="right")) - 1', 'side="left")) - 1'),
    ),
]
# fmt: on
