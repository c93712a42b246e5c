"""Example 04 on a real vLLM: an equal canary is promoted, and one that is only slower is rolled back."""
