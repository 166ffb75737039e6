"""Files written whole or not at all, and readers of archives and models that run nothing in them."""
