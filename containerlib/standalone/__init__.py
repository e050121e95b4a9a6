"""Containers of this host run by themselves: a process each, that starts one, follows it, and clears it away.

places.py   where each container's things are, and what is known of it: for list, attach, kill and reload from other processes
runner.py   the life of one container
hands.py    the process in which a definition's own functions run, worker.py what runs in it
control.py  asking a runner for something
"""
