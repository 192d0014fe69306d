"""What selection does, measured: repair, audit, comparisons of methods, and whether the theory holds."""
