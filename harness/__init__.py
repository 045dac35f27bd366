"""Does a generator's synthetic data make a classifier better, by how much, and at what cost?"""
