from dispatcher import accesslog
from dispatcher.accesslog import AccessLog


async def test_the_access_log_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(accesslog, "ACCESS_BYTES_MAX", 100)
    monkeypatch.setattr(accesslog, "ACCESS_FILES_MAX", 3)
    log = AccessLog(str(tmp_path / "access" / "here.log"))
    for number in range(8):
        log.write({"number": number, "filler": "x" * 100})
        log.flush()
    log.close()
    assert sorted(path.name for path in (tmp_path / "access").iterdir()) == ["here.log", "here.log.1", "here.log.2"]
    assert '"number":7' in (tmp_path / "access/here.log.1").read_text()
    assert '"number":6' in (tmp_path / "access/here.log.2").read_text()
