"""From policy, evidence and moment to the report: a pure function, so that anyone can compute it again.

record      the report itself
build       how it is made: judged, decided and written down
reading     how it is read from its file, and refused
limitations what weakens an outcome
table       what outputs print: the results, the metrics, and single lines
compare     the comparison of two reports
advice/     next steps
"""
