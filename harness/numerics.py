"""The version of the numerics: bumped when a change alters results.

Equal versions give equal results on one kind of processor; results of two versions never share a table.
"""

VERSION = 7
