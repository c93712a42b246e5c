"""What a trial has counted, and what that says: from `spec.analysis` to a verdict. Pure."""
