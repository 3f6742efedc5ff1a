"""CAT-Seg, the second network: cost aggregation over places and over classes (Cho et al. 2024, arXiv:2303.11797)."""
