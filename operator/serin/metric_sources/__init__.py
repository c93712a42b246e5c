"""Where evidence comes from: a port of one method, Prometheus behind it, and one collector for all active rollouts."""
