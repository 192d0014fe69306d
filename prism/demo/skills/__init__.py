"""The skills of the demo's pool: each maker draws one conversation from a random generator."""
