"""The error that a user can put right."""


class UserError(Exception):
    """What was wrong, where, and what to do about it, in one line.

    Raised for anything that the person at the keyboard can put right: a misspelt name, a missing folder,
    a truncated file. The command lines print the message without a traceback and exit with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # file names may contain line breaks
