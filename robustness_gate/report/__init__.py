"""Policy, evidence and moment -> the report: a pure function, so that anybody can make it anew.

record      the report itself, its limitations, and how it is built
compare     two reports side by side
advice/     what to do next
"""
