"""A report says what it was made on."""

import os

import trio

from bench.compare.machine import (
    divide_cpus,
    hot_path_is_compiled,
    package_versions,
    processor_name,
    this_machine,
)
from gateway import lane


def test_the_machine_is_described() -> None:
    machine = this_machine()
    assert machine.cpus == sorted(os.sched_getaffinity(0))
    assert machine.load_before >= 0
    assert machine.python.startswith("3.")
    assert machine.processor == processor_name() != ""
    assert package_versions()["trio"] == trio.__version__


def test_the_target_has_a_core_of_its_own_where_there_are_two() -> None:
    assert divide_cpus([0, 1, 2]) == ([0], [1, 2])
    assert divide_cpus([3]) == ([], [])


def test_it_is_told_whether_the_hot_path_is_compiled() -> None:
    assert hot_path_is_compiled() == str(lane.__file__).endswith(".so")
