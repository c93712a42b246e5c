"""A small but real triage model: it names queue and priority of a ticket in the format that its instruction asks for.

tickets   the world: tickets, instructions, right answers (pure, standard library; the load generator imports it)
corpus    training examples drawn from that world
tokenizer byte-pair encoding and chat template
train     the model and its training loop
evaluate  the measurement on tickets that training never saw
Run `python -m model_server.tiny` with the environment that `python -m model_server.cpu.install` prints.
"""
