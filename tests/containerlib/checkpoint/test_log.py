"""What is made of CRIU's log."""

from containerlib.checkpoint.log import essence

LOG = """\
(00.000100) Version: 4.2.1
(00.011000) Error (criu/util.c:10): Can't get rlimit 0: Operation not permitted
(00.012345)      1: Error (criu/files-reg.c:2143): File usr/bin/python3.11 has bad size 10 (expect 20)
(00.012400) Warn  (criu/x.c:1): nothing
(00.013000) Error (criu/cr-restore.c:2324): Restoring FAILED.
"""


def test_of_a_log_what_was_wrong_is_told_and_not_what_followed_from_it() -> None:
    assert essence(LOG) == "File usr/bin/python3.11 has bad size 10 (expect 20)"
    assert essence("(0.1) Error (criu/cr-dump.c:1): Dumping FAILED.\n") == "Dumping FAILED."
    assert essence("all is well\n") == ""
