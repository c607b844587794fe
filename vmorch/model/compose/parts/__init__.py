"""One module for each part of a service: its keys, their forms and what they become."""
