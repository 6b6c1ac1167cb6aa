"""The forms in which images come, one module each; :mod:`nflows_woodbury.loading` is the way in."""
