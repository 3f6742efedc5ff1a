"""gRPC in processes that Ray, or a loader of training data, forks from ours.

gRPC runs code of its own on both sides of a fork, and where other threads are at work in it just then that may be the
end of the child: with grpcio 1.85, 30 of 150 children of a busy server ended with SIGSEGV or SIGABRT before `exec`, and
now and then one hung. So a job's driver did not come to be, or what Ray starts for a client of ray://. No child of ours
goes on with the gRPC that it was forked with, so none needs that code.
"""

SAFE_FORKS = {"GRPC_ENABLE_FORK_SUPPORT": "0"}  # in the environment before gRPC is loaded
