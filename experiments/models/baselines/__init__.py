"""Networks of other packages, and of papers that came without one, behind our batches."""
