"""What a job will take, before it is begun: pictures counted, a few of them labelled, and the rest reckoned."""
