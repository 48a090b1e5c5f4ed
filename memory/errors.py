"""Errors of the memory. A message says what, the value, and what to do next.

MemoryFault
├── DatabaseFault        the database can't be opened, read or written
│   ├── Busy             another program writes to it
│   ├── KeyFault         it is encrypted, and its key is missing or wrong
│   ├── NewerSchema      it was written by a newer version of this program
│   └── WordsDamaged     the word index can't be read; it can be made anew
├── UnknownTurn          no turn has this id
├── UnknownConversation  no conversation has this id
├── TransferFault        a file to import can't be read
└── TooFewTurns          the log is too small to be tested
"""


class MemoryFault(Exception):
    """Anything the memory can't do; the message is one line for the user."""


class DatabaseFault(MemoryFault):
    """The database can't be opened, read or written."""


class Busy(DatabaseFault):
    """Another program writes to the database, and has for as long as this one waits."""


class KeyFault(DatabaseFault):
    """The database is encrypted, and its key is missing or wrong."""


class NewerSchema(DatabaseFault):
    """The database was written by a newer version of this program."""


class WordsDamaged(DatabaseFault):
    """The word index can't be read; it can be made anew from the turns."""


class UnknownTurn(MemoryFault):
    """No turn has this id."""


class UnknownConversation(MemoryFault):
    """No conversation has this id."""


class TransferFault(MemoryFault):
    """A file to import can't be read."""


class TooFewTurns(MemoryFault):
    """The log is too small to be tested."""
