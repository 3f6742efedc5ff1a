"""Training: data from manifests, labels and the demo world, the loop that every worker runs, and its Ray launcher."""
