"""Vocabularies in the box: one YAML file each, found by its name."""
