"""Rung 4: the suite is the network between several nodes of the testee, and judges what a client saw of it.

``network`` bends links, ``town`` starts and kills nodes, ``reader`` is the client that keeps and judges a history,
``schedule`` draws faults from the seed, ``players`` are neighbours that the suite plays itself.
"""
