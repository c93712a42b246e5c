"""Prompts of other tools: Langfuse, prompty, dotprompt and MLflow, from and to a PromptVersion. Pure.

`convert` is the entry. The common form is the spec of a PromptVersion; each format has one module that reads and writes
it. No format's own package is used: they resolve variables of the environment and files while they read, render
templates, and leave out in silence what they do not know, and these files come from elsewhere.
"""
