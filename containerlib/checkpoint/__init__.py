"""Images of running containers, by CRIU: taken once, restored as often as wanted, each time as somebody with an address of its own.

criu.py      which CRIU there is, whether it works here, running it
halting.py   a moment for an image: right before a program's first listen(), or another system call
obtain.py    one for machines whose distribution has none that works
"""
