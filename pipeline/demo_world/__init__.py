"""The demo world: procedural scenes with exact masks, to train, test and show the pipeline on."""
