"""LLMDeployments on the light engine, and traffic at a high rate: for the end-to-end tests and the benchmarks.

story     one LLMDeployment, and waiting for what happens to it
prompts   PromptVersions, good and bad ones
traffic   plain requests and long streams
image     the light engine's image, on the sandbox's node
"""
