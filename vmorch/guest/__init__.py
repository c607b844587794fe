"""What reaches into a guest: identity bundle and seed, SSH, agent commands."""
