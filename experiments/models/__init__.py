"""Networks as taggers, one file each."""
