"""Signed reports: keys, envelopes, statements, trust, preregistration, and `verify`. No torch.

`keys` and `dsse` sign bytes; `statement` names their subject; `predicate` is the signed form of the report, `claims`
its small projections, `preregistration` the terms fixed before the run; `trust` lists the accepted keys; `verify`
checks all of it.
"""
