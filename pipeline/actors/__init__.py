"""Ray actors, the shard runner inside them, and the scheduler that hands out shards."""
