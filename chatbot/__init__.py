"""A terminal chatbot that remembers: the dialogue engine and the terminal."""

import os

# OpenMP's threads wait asleep, not spinning: where other programs use the same cores, a reply is
# then about ten times as fast, and elsewhere hardly slower. It is read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
