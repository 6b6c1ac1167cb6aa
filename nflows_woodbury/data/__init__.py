"""Where images come from: sources of batches, and readers of the files that hold them."""
