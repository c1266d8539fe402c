"""The model `auto`: for every batch the most accurate network that still answers in time. Pure, as batching is."""
