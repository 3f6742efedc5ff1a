"""The way of the pictures: sources, plan, Ray actors, labels, and what is made of labels."""
