"""A study on disk.

files       reading a file by its schema, writing it whole or not at all
schema      what the files hold
folder      one study, and one process at a time, in a folder
results     the files of a folder, arranged by activation, seed and epoch
"""
