"""The model: tensors in, tensors out; its configuration, weights and the `Segmenter`. No Ray, no object storage."""
