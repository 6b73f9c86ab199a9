"""`python -m mmdata`: the same as the command `mmdata`."""

from mmdata.cli import main

main()
