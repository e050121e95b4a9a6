"""python -m tests.dispatcher.userlb.golden writes what test_golden.py compares with. Read the difference before you keep it."""

from pathlib import Path

from dispatcher.userlb import config
from dispatcher.userlb.config import Pool

FILE = Path(__file__).parent / "golden.cfg"
POOL = Pool(
    ("0.0.0.0:80", "[::]:80"),
    ("127.0.0.1:8082", "127.0.0.1:8083"),
    ("10.0.0.0/8", "fd00::/8"),
    "/run/fastcontainer/userlb",
    lanes=2,
    slots=3,
    secure=("0.0.0.0:443", "[::]:443"),
    speak_proxy=("192.0.2.7/32",),
    files="/run/fastcontainer/files/files.sock",
    client_requests_per_s=100.0,
    client_connections=200,
)

if __name__ == "__main__":
    FILE.write_text(config.text(POOL))
