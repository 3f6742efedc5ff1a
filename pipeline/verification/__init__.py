"""The parts of `pipeline.verify`: plan and names, label files, their rows, and the processes that check them."""
