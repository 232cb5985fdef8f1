"""Servers of S3's and of Cloud Storage's protocol on this machine: `from tests.buckets import bucket, servers`."""

import logging
import os
import socket
import socketserver
import urllib.request

import fsspec
import pytest

from inception_jax import paths


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start_s3():
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    return server


def _start_gcs(port, patch):
    from gcp_storage_emulator.server import create_server
    from gcp_storage_emulator.storage import Storage

    # It would encode the description of all objects at each write, also where it is kept in memory.
    patch.setattr(Storage, "_write_config_to_file", lambda _: None)
    patch.setattr(socketserver.TCPServer, "request_queue_size", 128)  # more connections at once would wait for seconds
    logging.getLogger("gcp_storage_emulator").setLevel(logging.ERROR)
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    return server


@pytest.fixture(scope="module")
def servers():
    s3, port = _start_s3(), free_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3.get_host_and_port()[1]}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "CLOUD_STORAGE_EMULATOR_ENDPOINT": f"http://127.0.0.1:{port}",  # for array_record
    }
    with pytest.MonkeyPatch.context() as patch:
        gcs = _start_gcs(port, patch)
        for name, value in environment.items():
            patch.setenv(name, value)
        forget()
        _empty_s3()
        fsspec.filesystem("s3").mkdir("bucket")
        yield
        _empty_s3()
        forget()
    s3.stop()
    gcs.stop()


def _empty_s3():
    """Removes all buckets: those of a process outlive moto's server."""
    address = f"{os.environ['AWS_ENDPOINT_URL']}/moto-api/reset"
    urllib.request.urlopen(urllib.request.Request(address, method="POST")).close()


def forget():
    """Makes the next access connect again."""
    for cached in (paths._reach, paths._filesystem, paths.epath.backend.fsspec_backend._get_filesystem):
        cached.cache_clear()
    for name in ("s3", "gcs"):
        fsspec.get_filesystem_class(name).clear_instance_cache()


@pytest.fixture(params=["s3", "gs"])
def bucket(request, servers):
    return f"{request.param}://bucket"
