"""Use of the machine: files, text, and child processes.

writing     a file is written whole or not at all
utf8        text files are UTF-8, without a byte order mark
redaction   no credentials in messages and logs
bounded     a child process with limits on time and memory, which the parent ends
"""
