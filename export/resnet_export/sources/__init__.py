"""Where a network comes from: one file an origin, each giving weights, facts and the reference that its owner trusts.

Nothing is imported here: the options stand on the command line before torch is loaded.
"""
