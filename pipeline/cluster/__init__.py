"""A job on a Ray cluster by Ray's job submission: sent, watched, stopped; the work is that of the other commands."""
