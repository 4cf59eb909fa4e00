"""Loading, asking, training and restoring models. Only this room and `organisms` import torch at the top of a file.

`load` turns a checkpoint directory into a model; `score` asks it questions; `scope` holds the context managers in
which an attack may change it and which restore it exactly; `train` is the one small training loop. Code that attacks
share is here, because attacks do not import one another.
"""
