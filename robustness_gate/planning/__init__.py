"""Policy, suite and checkpoint -> every trial, written out before anything runs.

suite_data      every file that a suite names, read, divided and checked
applicability   what an attack needs of a model and of the data
compatibility   a policy and a suite held against each other
bench           on which organisms of known truth an attack is tested
plan            the trials, their order, and their cost
specimens       one exact prompt of each task and attack, for a person to read
"""
