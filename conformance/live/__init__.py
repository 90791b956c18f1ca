"""Rung 3: the suite is every neighbour of one live node, over TLS.

:mod:`peer` speaks for one neighbour, frame by frame; :mod:`testee` is what cases are given; :mod:`hands` plays whole
roles where a case needs somebody who just does his work; the modules ``cases_*`` hold the cases.
"""
