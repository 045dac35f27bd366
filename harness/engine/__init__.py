"""Who carries tasks out: in order, on this host's devices, or on a Dask cluster.

A task is a function of plain data in a process of its own, and knows nothing of who carries it out. May import
`tracking` and `training`; knows no method, no figure and no Optuna.
"""
