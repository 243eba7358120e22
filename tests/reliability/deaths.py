"""Processes that die at a chosen file operation, for the tests of what is lost then."""

import builtins
import io
import os
import signal

# What changes a disk, as Python calls it. What TensorFlow writes by itself lies between these.
OPERATIONS = ("replace", "rename", "fsync", "unlink", "remove", "rmdir", "mkdir", "symlink", "link", "open")


class Death(BaseException):
    """Stands for SIGKILL within a process: nothing catches it, and no file operation succeeds after it."""


class FileOperations:
    """Counts the operations on files, and dies at one of them.

    As a context manager it makes them raise `Death` from that one on, so that what `finally` blocks would clean up
    stays as a killed process leaves it. With `install` the process kills itself.
    """

    def __init__(self, fatal: int | None = None) -> None:
        """Args: fatal: The operation to die at, from 0; None: count only."""
        self.count, self._fatal, self._originals = 0, fatal, {}

    def _counted(self, original, die):
        def operation(*arguments, **kwargs):
            number, self.count = self.count, self.count + 1
            if self._fatal is not None and number >= self._fatal:
                die()
            return original(*arguments, **kwargs)

        return operation

    def _counted_open(self, original, die):
        counted = self._counted(original, die)

        def open_file(file, mode="r", *arguments, **kwargs):
            writes = isinstance(mode, str) and set(mode) & set("wax+")
            return (counted if writes else original)(file, mode, *arguments, **kwargs)

        return open_file

    def install(self, die=lambda: os.kill(os.getpid(), signal.SIGKILL)) -> None:
        """Watches the operations of this process."""
        for name in OPERATIONS[:-1]:
            self._originals[os, name] = getattr(os, name)
            setattr(os, name, self._counted(getattr(os, name), die))
        for module in (io, builtins):
            self._originals[module, "open"] = module.open
        replacement = self._counted_open(io.open, die)
        io.open = builtins.open = replacement

    def __enter__(self):
        def die():
            raise Death

        self.install(die)
        return self

    def __exit__(self, *_):
        for (module, name), original in self._originals.items():
            setattr(module, name, original)


if __name__ == "__main__":
    import sys

    from ddr_tf import train

    operations = FileOperations(int(sys.argv[1]) if sys.argv[1] != "count" else None)
    operations.install()
    status = train.main(sys.argv[2:])
    print(f"operations: {operations.count}", flush=True)
    sys.exit(status)
