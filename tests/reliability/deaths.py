"""Processes that die at a chosen file operation, for the tests of what is lost then."""

import builtins
import io
import os
import signal
import sys
import traceback

# What changes a disk, as Python calls it. What TensorFlow writes by itself lies between these.
OPERATIONS = ("replace", "rename", "fsync", "unlink", "remove", "rmdir", "mkdir", "symlink", "link", "open")


class Death(BaseException):
    """Stands for SIGKILL within a process: nothing catches it, and no file operation succeeds after it."""


class FileOperations:
    """Counts the operations on files, and dies at one of them.

    As a context manager it makes them raise `Death` from that one on, so that what `finally` blocks would clean up
    stays as a killed process leaves it. With `install` the process kills itself.
    """

    def __init__(self, folder, fatal: int | None = None) -> None:
        """Args: folder: What counts is in it; fatal: The operation to die at, from 0; None: count only."""
        self.count, self._folder, self._fatal, self._originals = 0, str(folder), fatal, {}

    def _is_inside(self, arguments, kwargs):
        folder = kwargs.get("dir_fd")
        if isinstance(arguments[0], int):  # of fsync
            return os.readlink(f"/proc/self/fd/{arguments[0]}").startswith(self._folder)
        place = os.readlink(f"/proc/self/fd/{folder}") if folder else os.getcwd()
        paths = [each for each in arguments[:2] if isinstance(each, (str, os.PathLike))]
        return any(os.path.join(place, path).startswith(self._folder) for path in paths)

    def _counted(self, original, die):
        def operation(*arguments, **kwargs):
            if self._is_inside(arguments, kwargs):
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


def dies(folder, fatal: int, write) -> bool:
    """Whether a process that writes there dies at operation `fatal`; False if there are fewer."""
    try:
        with FileOperations(folder, fatal):
            write()
    except Death as death:
        while death:  # and those that came before it: their files are closed, as the end of a process does
            traceback.clear_frames(death.__traceback__)
            death = death.__context__
        return True
    return False


def main(command: str, fatal: str, replicas: str, folder: str, *flags: str) -> int:
    """Runs a command of ddr_tf that kills itself at operation `fatal` in the folder; "count" only counts them."""
    import importlib

    import tensorflow as tf

    from ddr_tf.training import devices

    if int(replicas) > 1:
        cpus = [tf.config.LogicalDeviceConfiguration()] * int(replicas)
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], cpus)
        strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(int(replicas))])
        devices.make_devices = lambda *_: devices.Devices(strategy)
    operations = FileOperations(folder, None if fatal == "count" else int(fatal))
    operations.install()
    status = importlib.import_module(f"ddr_tf.{command}").main(flags)
    print(f"operations: {operations.count}", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
