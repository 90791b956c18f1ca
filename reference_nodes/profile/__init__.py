"""What real backends do on this machine, in files that the planning simulator reads: how long steps take, and what
drafters get right.
"""
