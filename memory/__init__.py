"""The conversation log and its recall. Never imports `chatbot`."""
