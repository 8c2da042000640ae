"""The error a user sees when a run cannot go on."""


class UserError(Exception):
    """Something in the command or its surroundings is wrong; the message is one line."""
