"""Pure builders: from a spec to a pod template, from a resolved revision to the children that are applied."""
