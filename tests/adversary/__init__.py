"""Methods that cheat, or leave something behind: each is refused, or changes no figure."""
