"""observe -> plan -> apply, again and again."""
