"""The parts of `pipeline.output.verify`: plan and names, label files, their rows, and the processes that check them."""
