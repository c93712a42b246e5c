"""Reads exact counts from Prometheus for all running trials, as intervals without gaps. Decides nothing.

`collector` polls and holds the intervals, `prometheus` manages servers and connections, `queries` asks one server,
`intervals` sums what came back; `port` has the interfaces between them and the reconciler.
"""
