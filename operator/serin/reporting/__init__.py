"""What people read: the status, its conditions and caveats, and Events. No decision rests on it. Pure."""
