"""Make the book's environment: a `.venv` in the clone, with everything that is pinned.

`make` calls this, with whatever Python there is. It must therefore be readable by old ones, if
only to say that they are too old.
"""

import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
LOG = os.path.join(ROOT, ".venv", "set_up.log")
NEEDED_MB = 2500

if sys.version_info < (3, 11):
    sys.exit(
        "This book needs Python 3.11 or newer; %s is %d.%d. "
        "Name another one: make PYTHON=python3.11" % ((sys.executable,) + sys.version_info[:2])
    )


def main():
    python = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin", "python")
    if not works(python):
        make_venv()
    free = shutil.disk_usage(ROOT).free // 2**20
    installed = works(python, "-c", "import torch, jupyter_book")
    if free < NEEDED_MB and not installed:
        sys.exit(
            "The disk has %d MB free; about %d MB are needed. Free some, then type the same "
            "command again." % (free, NEEDED_MB)
        )
    print("Installing the book's packages into .venv (minutes, the first time) ...", flush=True)
    torch_index = os.environ.get("TORCH_INDEX")
    if torch_index and not works(python, "-c", "import torch"):
        install(python, "--index-url", torch_index, pinned("torch"))
    install(python, "-r", os.path.join(ROOT, "requirements.txt"))
    install(python, "--no-deps", "-e", ROOT)
    put_on_path(python, ROOT)


def works(python, *arguments):
    """Whether a Python is there and runs; a half-made .venv has one that does not."""
    command = [python] + (list(arguments) or ["-m", "pip", "--version"])
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def make_venv():
    try:
        import ensurepip  # noqa: F401
        import venv
    except ImportError:
        sys.exit(
            "%s has no venv module. On Debian and Ubuntu: sudo apt install python3-venv. "
            "Then type the same command again." % sys.executable
        )
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit("Could not make .venv: %s" % error)


def put_on_path(python, folder):
    """Let the environment import from the clone: its chapters import `utils`.

    What is installed is the same folder under the name `evalmode`.
    """
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.check_output([python, "-c", code], universal_newlines=True).strip()
    with open(os.path.join(packages, "the_book.pth"), "w") as file:
        file.write(folder + "\n")


def pinned(name):
    """The line of requirements.txt that pins a package."""
    with open(os.path.join(ROOT, "requirements.txt")) as file:
        return next(line.split("#")[0].strip() for line in file if line.startswith(name + "=="))


def install(python, *arguments):
    """Install with pip; on failure say in one line what to do, and leave the rest in a log."""
    with open(LOG, "w") as log:
        command = [python, "-m", "pip", "install", "--disable-pip-version-check", *arguments]
        code = subprocess.call(command, stdout=log, stderr=subprocess.STDOUT)
    if code == 0:
        return
    with open(LOG) as log:
        said = log.read()
    if "No space left" in said:
        hint = "the disk is full. Free about %d MB" % NEEDED_MB
    elif "No matching distribution" in said and "Failed to establish" not in said:
        missing = said.split("No matching distribution found for ")[-1].split("\n")[0]
        hint = "there is no %s for this Python and system; see README, 'Other machines'" % missing
    else:
        hint = "a download failed. Check the network"
    sys.exit("Installing stopped: %s, then type the same command again (details: %s)" % (hint, LOG))


if __name__ == "__main__":
    main()
