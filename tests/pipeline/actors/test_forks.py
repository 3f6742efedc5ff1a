"""Children that are forked while gRPC is at work live."""

import os
import subprocess
import sys

import pytest

from pipeline.actors.forks import SAFE_FORKS

# Forks in the thread that answers a call, as Ray's proxy for clients does, and as many as say something.
FORKS = """
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
import grpc

class Forking(grpc.GenericRpcHandler):
    def service(self, _):
        return grpc.unary_unary_rpc_method_handler(fork)

def fork(*_):
    child = os.fork()
    if child == 0:
        os._exit(0)
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()

server = grpc.server(ThreadPoolExecutor(20), handlers=[Forking()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/a/b")
print(dict(Counter(call(b"").decode() for _ in range(100))), flush=True)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks as Ray does there")
def test_a_child_that_is_forked_while_grpc_is_at_work_lives():
    command = [sys.executable, "-c", FORKS]
    environment = {**os.environ, **SAFE_FORKS}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.stdout == "{'0': 100}\n", done.stderr
