"""Images with labels: the data sets, folders of one's own, splits, small moves, and the controls made of real images.

All is uint8 [n, C, H, W] outside and float in [-1, 1] within a step. May import what lies beside this folder's parent
(`seeding`, `bounds`, `locks`, …) and nothing else of the harness; knows no network, no training, no store.
"""
