"""Where a container's root comes from: one module a strategy."""
