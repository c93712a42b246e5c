"""A small but real triage model: it names queue and priority of a ticket in the format that its instruction requests.

tickets   tickets, instructions, expected answers (pure, standard library; the load generator imports it)
corpus    training examples
tokenizer byte-pair encoding and chat template
train     the model and its training loop
evaluate  measures a model on tickets that are not in its training data

Run `python -m model_server.tiny` with the environment that `python -m model_server.cpu.install` prints.
"""
