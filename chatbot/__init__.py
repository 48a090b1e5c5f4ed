"""A terminal chatbot that remembers: the dialogue engine and the terminal."""
