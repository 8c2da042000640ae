"""Jets for Lightning: batches, loaders, data modules."""
