"""The classifier, the judge, and how good samples are: quality beside its floor, neighbours, copies, CAS.

Functions of images, labels and networks that return numbers. May import `training` and `data`; knows no generator's
inside, no run and no store.
"""
