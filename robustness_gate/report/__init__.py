"""From policy, evidence and moment to the report: a pure function, so that anyone can compute it again.

record      the report itself, its limitations, and how it is built
compare     the comparison of two reports
advice/     next steps
"""
