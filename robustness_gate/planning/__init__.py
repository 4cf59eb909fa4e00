"""From policy, suite and checkpoint to all trials, before anything runs.

suite_data      reads, divides and checks every file that a suite names
applicability   in which forms of the hazard an attack can run
compatibility   whether a policy and a suite fit together
bench           the organisms on which each attack is tested
plan            the trials and their order
cost            what each trial will take, from the tokens that `tokens` counts by arithmetic
specimens       one exact prompt of each task and attack, for a reader
"""
