"""One run from end to end: train, sample, score, log. What a script, a trial and a cell all call.

Here generators and classifiers meet MLflow, through `tracking`: what makes two runs the same one, what a run says of
itself, the judge of a store, a trained generator as files. May import all rooms below; knows no study, no engine.
"""
