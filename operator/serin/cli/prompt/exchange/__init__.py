"""Prompts of other tools: Langfuse, prompty, dotprompt and MLflow, from and to a PromptVersion. Pure.

`convert` is the entry. The common form is the spec of a PromptVersion; each format has one module that reads and writes
it. The packages of these tools are not used: that of prompty reads variables of the environment and other files while
it loads, that of dotprompt needs a Handlebars engine, and all ignore fields that they do not know. Here, what a file
holds must be carried over, refused or named.
"""
