"""Counting on a real Prometheus, and connecting to one. The tests share it and the pods that it scrapes."""
