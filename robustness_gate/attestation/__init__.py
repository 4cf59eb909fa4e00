"""Signed reports: keys, envelopes, statements, who is trusted, what was fixed before a run, and `verify`. No torch.

`keys` and `dsse` sign bytes; `statement` says what they are about; `predicate` is the report as it is signed, `claims`
its small projections, `preregistration` what was fixed before the run; `trust` is whom a reader believes; `verify`
checks.
"""
