"""Seeing inside the GPT: what it holds likely, what it looks at, what a memory did to a reply.

    glass       a model one can look into: every logit, hidden vector and attention weight
    nextword    one word's way through the model; given continuations compared
    attention   which earlier words each word looks at
    influence   what each memory did to a reply, by leaving it out
    strategies  greedy, beam search and sampling side by side
    limits      common sense, the window's edge, size: with the model's own probabilities
    questions   what limits asks
    weights     what weights take in several formats, and rounding them
    draw, plot  numbers as rows for a terminal, as a picture
    slash, cli  the commands of the chat and of the shell

Nothing here is loaded by a normal turn. Numbers and how they are shown stand apart: a module's
`…_view` makes rows of what the module measured.
"""
