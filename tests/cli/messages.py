"""What the program says, among what its launcher writes to stderr as well."""


def messages(stderr):
    """The program's lines. Open MPI 5 ends its own texts with a NUL instead of a line's end."""
    return [line for line in stderr.replace("\0", "\n").splitlines() if line.startswith("helix-bench: ")]
