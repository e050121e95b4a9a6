"""What runs on the second kernel. Pure."""

from collections.abc import Sequence

from tests.escapes.cases import rows

INSIDE = "tests/vm/inside"
SMOKE = (f"{INSIDE}/test_smoke.py",)
# What depends on the kernel's version, on the version of control groups, or on a feature that this host may lack.
WHOLE = (
    INSIDE,
    "tests/containerlib/cgroups",
    "tests/containerlib/checkpoint/test_dumping.py::test_without_an_init_too",
    "tests/containerlib/test_kernel.py",
    "tests/containerlib/test_launcher.py",
    "tests/containerlib/test_network.py",
    "tests/containerlib/test_operations.py",
    "tests/containerlib/test_process.py",
    "tests/containerlib/test_netlink.py",
    "tests/containerlib/test_runtime.py",
    "tests/containerlib/test_seccomp.py",
    "tests/containerlib/test_sockdiag.py",
    "tests/containerlib/test_sources.py",
    "tests/containerlib/test_readiness.py",
    "tests/containerlib/test_enter.py",
    "tests/system/test_waking.py",
    "tests/system/test_limits.py",
    "tests/system/test_io.py",
    "tests/system/test_stopping.py",
    "tests/system/test_idle.py",
    "tests/system/test_deaths.py",
    "tests/system/test_failing.py",
    "tests/system/test_isolation.py",
    "tests/system/test_output.py",
    # Escapes by files that this host may lack, and all others as root with every capability that may be had.
    *(f"tests/escapes/test_escapes.py::test_escape[{row[0]}]" for row in rows() if row[1].needs),
    "tests/escapes/test_escapes.py::test_root_with_what_capabilities_a_definition_may_have_has_no_way_out",
)
LEFT_OUT = (
    # Whatever is emulated is no matter for milliseconds.
    "tests/containerlib/test_readiness.py::test_polling_notices_within_2_ms_or_2_percent",
    "tests/containerlib/test_readiness.py::test_by_the_kernels_event_it_is_noticed_within_2_ms_whatever_the_boot_took",
    "tests/system/test_failing.py::test_bad_sites_do_not_hold_up_a_good_one",
    # Its agent takes longer to begin than proxies of the one before are waited for.
    "tests/system/test_deaths.py::test_an_agent_killed_while_it_drains_waits_for_what_is_in_flight",
    # The guest's only disk is memory: all that it writes lies in memory, and none of it can be taken back.
    "tests/containerlib/test_runtime.py::test_of_a_frozen_ones_memory_what_is_on_disk_can_be_taken_back",
)
# A test may take as long as such a machine needs; importing hypothesis, which none of these asks for, takes it 10 s.
OPTIONS = (
    "-p",
    "no:cacheprovider",
    "-p",
    "no:hypothesispytest",
    "-o",
    "timeout=600",
    *(f"--deselect={test}" for test in LEFT_OUT),
)
ROOT = "tests/"
SMOKE_S = 240
WHOLE_S = 2400


def words(arguments: Sequence[str]) -> list[str]:
    """For pytest: with everything that runs there, unless the arguments name something."""
    named = any(word.startswith(ROOT) for word in arguments)
    return [*arguments, *(() if named else WHOLE)]
