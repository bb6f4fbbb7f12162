"""Run a command and append its peak of resident memory, in bytes, to the file named by ARGOSY_PEAK."""
import os
import sys

child = os.fork()
if child == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
with open(os.environ["ARGOSY_PEAK"], "a") as file:
    file.write(f"{os.environ.get('OMPI_COMM_WORLD_RANK', '0')} {usage.ru_maxrss * 1024}\n")
sys.exit(os.waitstatus_to_exitcode(status) & 255)
