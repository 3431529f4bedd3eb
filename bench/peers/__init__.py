"""The servers that are compared, one folder each; every one is told its port, MongoDB's URL and its database."""
