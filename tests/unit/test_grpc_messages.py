"""The messages: made from the sources beside them, and the same on the wire as another client's."""

import pytest
from google.protobuf import descriptor_pb2

from shipway.core.errors import InvalidRequest
from shipway.gateway.grpc import generate
from shipway.gateway.grpc.messages import POOL, ModelInferRequest, message_class, parsed


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_descriptors_are_those_of_the_sources():
    def files(data):
        found = descriptor_pb2.FileDescriptorSet.FromString(data).file
        # What is Google's may be worded otherwise by another release of the compiler.
        return [file for file in found if not file.name.startswith("google/")]

    checked_in = (generate.HERE / "messages.binpb").read_bytes()
    assert files(generate.descriptors()) == files(checked_in), "run gateway/grpc/generate.py"


def flat(descriptor, prefix=""):
    found = {}
    for field in descriptor.fields:
        kind = field.message_type
        found[f"{prefix}{field.name}"] = (field.number, field.type, field.is_repeated)
        if kind is not None and kind.full_name.startswith("inference."):
            found |= flat(kind, f"{prefix}{field.name}.")
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_field_is_where_tritons_client_has_it():
    from tritonclient.grpc import service_pb2

    for method in POOL.FindServiceByName("inference.GRPCInferenceService").methods:
        theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
        other = theirs.methods_by_name[method.name]
        assert method.client_streaming == other.client_streaming
        assert method.server_streaming == other.server_streaming
        for own, its in (
            (method.input_type, other.input_type),
            (method.output_type, other.output_type),
        ):
            assert flat(own).items() <= flat(its).items(), own.full_name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_health_is_the_service_that_grpc_defines():
    from grpc_health.v1 import health_pb2

    for name in ("HealthCheckRequest", "HealthCheckResponse"):
        own = message_class(f"grpc.health.v1.{name}").DESCRIPTOR
        its = getattr(health_pb2, name).DESCRIPTOR
        assert [(f.name, f.number, f.type) for f in own.fields] == [
            (f.name, f.number, f.type) for f in its.fields
        ]
    statuses = health_pb2.HealthCheckResponse.ServingStatus.items()
    own = message_class("grpc.health.v1.HealthCheckResponse").DESCRIPTOR
    assert [(v.name, v.number) for v in own.enum_types_by_name["ServingStatus"].values] == statuses


def test_bytes_that_are_no_message_are_the_callers_fault():
    with pytest.raises(InvalidRequest, match=r"no inference\.ModelInferRequest"):
        parsed(ModelInferRequest, b"\xff\xff\xff")
