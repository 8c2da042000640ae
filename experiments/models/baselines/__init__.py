"""Networks of other packages and papers as taggers."""
