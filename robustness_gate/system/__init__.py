"""What the program asks of the machine that it runs on: files, text, and child processes.

writing     a file is written whole or not at all
utf8        text files are UTF-8, without a byte order mark
redaction   secrets never reach a message or a log
bounded     a child process with limits on time and memory, which the parent ends
"""
