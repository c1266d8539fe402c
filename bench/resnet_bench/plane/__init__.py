"""The plane of a group: which share of the calls is answered in time, and how often the answers are right."""
