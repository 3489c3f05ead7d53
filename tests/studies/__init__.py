"""Studies of what monitoring is worth, each a command that writes its findings to results/."""
