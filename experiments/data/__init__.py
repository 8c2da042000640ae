"""Data for Lightning: batches, features, loaders and data modules."""
