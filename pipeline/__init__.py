"""The picture's way: sources, manifest, fetch, decode, decide, encode, shards, actors, scheduling."""
