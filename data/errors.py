"""The error a user sees when an input file cannot be used."""


class DataError(ValueError):
    """A data file is missing, damaged, or holds something that is not a jet sample.

    The message is one line: what was found, where, and what to do about it.
    """
