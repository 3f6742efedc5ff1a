"""One job: resolved, planned, labelled, stopped, retried, updated."""
