"""What the data looks like: manifest, vocabulary, label rows, job, errors. No torch, no Ray, no I/O."""
