"""The servers that are compared, one folder each. Each is told its port, MongoDB's URL and its database."""
