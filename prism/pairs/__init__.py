"""Target pairs for people who have none: made from what they do have."""
