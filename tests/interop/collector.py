"""An OTLP receiver that is not ours: gRPC's own Python server, OpenTelemetry's own messages.

collector.py PORT: prints each span that it is sent as one line of JSON.
"""

import json
import sys
from concurrent import futures

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


def plain(attributes):
    """Attributes by name; those of a kind that OTLP does not know are refused."""
    values = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        assert kind in ("string_value", "int_value", "double_value", "bool_value"), attribute
        values[attribute.key] = getattr(attribute.value, kind)
    return values


class Receiver(service.TraceServiceServicer):
    def Export(self, request, context):
        for resource in request.resource_spans:
            of = plain(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    told = {
                        "service": of.get("service.name"),
                        "trace": span.trace_id.hex(),
                        "span": span.span_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "kind": Span.SpanKind.Name(span.kind),
                        "status": Status.StatusCode.Name(span.status.code),
                        "name": span.name,
                        "nanos": span.end_time_unix_nano - span.start_time_unix_nano,
                        "attributes": plain(span.attributes),
                    }
                    print(json.dumps(told), flush=True)
        return messages.ExportTraceServiceResponse()


server = grpc.server(futures.ThreadPoolExecutor(2))
service.add_TraceServiceServicer_to_server(Receiver(), server)
assert server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
server.wait_for_termination()
