"""DSD-Si: the role machines of :mod:`dsdproto` on a virtual clock.

So far the world that fault tests run in: nodes, links with delay, cuts, crashes. Models of devices, workloads and
policies come on top of it.
"""
