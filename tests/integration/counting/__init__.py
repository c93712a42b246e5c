"""Counting on a real Prometheus, and getting at one. The tests share it, and the pods that it scrapes."""
