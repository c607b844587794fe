"""Pure: what is desired and what was observed, at a moment, become actions with reasons."""
