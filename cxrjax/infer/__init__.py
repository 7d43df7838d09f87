"""Trained networks, of a finished run or of a running one: what they say of films, and the films that they make."""
