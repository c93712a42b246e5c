"""Pure builders: a spec to a pod template, a resolved revision to its children, stored objects to views."""
