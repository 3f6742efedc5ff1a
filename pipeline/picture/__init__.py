"""The way of one picture: fetch, decode, decide, encode, and the evidence kept of it."""
