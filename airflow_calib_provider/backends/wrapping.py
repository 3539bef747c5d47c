"""What stands between a batch system and a job that declares products: it leaves their checksums beside them.

Where the machine has a Python it is the parent of the job, whose signals it passes on, and whose end, by exit code or
by signal, it takes as its own. Where there is none, as in many containers, the job runs as any other does, and
housekeeping makes the checksums.
"""

from __future__ import annotations

import shlex

from airflow_calib_provider.checksums import SUMS
from airflow_calib_provider.domain.submission import JobSubmission

SECONDS = 20
"""For the checksums of a job; what takes longer is made later, elsewhere."""

MARGIN = 2
"""Seconds before the job's time limit: it ended in time, and must not seem to run over it now."""

WRAPPER = f"""\
import hashlib, os, resource, signal, sys, time
limit, n = float(sys.argv[1]), int(sys.argv[2])
files, command = sys.argv[3:3 + n], sys.argv[3 + n:]
until = time.monotonic() + limit - {MARGIN} if limit else float("inf")
passed = [number for number in (1, 2, 3, 10, 12, 15, 18) if signal.getsignal(number) != signal.SIG_IGN]
signal.pthread_sigmask(signal.SIG_BLOCK, passed)
job = os.fork()
if not job:
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
    try:
        os.execvp(command[0], command)
    finally:
        os._exit(127)
ended = False
def forward(number, frame):
    global until
    if ended:
        until = 0.0
    else:
        os.kill(job, number)
for number in passed:
    signal.signal(number, forward)
signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
os.waitid(os.P_PID, job, os.WEXITED | os.WNOWAIT)
ended = True
status = os.waitpid(job, 0)[1]
if os.WIFSIGNALED(status):
    number = os.WTERMSIG(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
until = min(until, time.monotonic() + {SECONDS})
lines = []
for name in files if not status else ():
    try:
        if not os.path.isfile(name):
            continue
        made = hashlib.sha256()
        with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as stream:
            while time.monotonic() < until:
                chunk = stream.read(1 << 20)
                if not chunk:
                    lines.append(made.hexdigest() + "  " + name + chr(10))
                    break
                made.update(chunk)
    except (OSError, ValueError, TypeError):
        pass
try:
    if lines:
        with open("../{SUMS}", "w", encoding="utf-8") as stream:
            stream.write("".join(lines))
except (OSError, ValueError):
    pass
os._exit(os.WEXITSTATUS(status))
"""


def wrapped(job: JobSubmission, inner: str) -> list[str]:
    """The last lines of a job's script, which run in its folder ``out``.

    :param inner: what becomes the job, with the arguments of the script; it sets the job's environment, which is
        nothing that the Python of the machine should be started with.
    """
    if not job.products:
        return [inner]
    files = shlex.join(job.products)
    return [
        f"inner={shlex.quote(inner)}",
        "if python3 -I -S -c 'import hashlib, resource' >/dev/null 2>&1; then",
        f'exec python3 -I -S -c "$wrapper" {job.timeout or 0:g} {len(job.products)} {files} sh -c "$inner" sh "$@"',
        "fi",
        'eval "$inner"',
    ]
