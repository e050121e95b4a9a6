import subprocess
import sys

from dispatcher.cmdb.messages import rpc


def test_messages_survive_the_wire() -> None:
    put = rpc.PutRequest(key=b"/a", value=b"\0\xff", lease=7)
    request = rpc.TxnRequest(
        compare=[rpc.Compare(key=b"/a", target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=3)],
        success=[rpc.RequestOp(request_put=put)],
    )
    again = rpc.TxnRequest.FromString(request.SerializeToString())
    assert again == request
    assert again.success[0].request_put.value == b"\0\xff"


def test_etcd3_itself_imports_after_it() -> None:
    """Unmodified, in a fresh process, with whatever protobuf is installed."""
    program = "import dispatcher.cmdb.messages, etcd3; assert etcd3.etcdrpc.PutRequest(lease=5).lease == 5"
    subprocess.run([sys.executable, "-c", program], check=True)
