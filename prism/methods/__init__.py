"""Methods: a table of recipes, and the baselines that need no gradients."""
