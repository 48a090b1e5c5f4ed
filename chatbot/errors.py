"""Errors of the chatbot. A message says what, the value, and what to do next.

    ChatbotFault             exit code 1
    ├── ModelFault           a model is unknown, missing, damaged or unsuited
    │   └── ModelMissing     a built-in model isn't on this machine and can't be fetched now
    ├── WindowFull           one prompt alone is longer than the context window
    └── BadInput             a value given by the user is wrong (exit code 2)

The memory has a tree of its own (memory/errors.py). chatbot/cli.py and the terminal show both as
one line each.
"""


class ChatbotFault(Exception):
    """Anything the chatbot can't do; the message is one line for the user."""

    exit_code = 1


class ModelFault(ChatbotFault):
    """A model is unknown, missing, damaged or unsuited."""


class ModelMissing(ModelFault):
    """A built-in model isn't on this machine and can't be fetched now."""


class WindowFull(ChatbotFault):
    """One prompt alone is longer than the context window."""


class BadInput(ChatbotFault):
    """A value given by the user is wrong."""

    exit_code = 2
