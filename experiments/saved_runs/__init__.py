"""The directory of a run: its files, and how runs and commands read and write them."""
