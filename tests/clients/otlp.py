"""Reads requests of an OTLP exporter as a collector does: with the messages that OpenTelemetry publishes.

Standard input has a JSON list of requests, each with path and body. Prints a JSON object: `metrics`, the last value of
each by name and attributes, and `spans`. A field that OTLP does not know is an error.
"""

import base64
import json
import sys

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

metrics, spans = {}, []


def attributes(of):
    return {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in of}


def named(name, point):
    labels = ",".join(f"{key}={value}" for key, value in attributes(point.attributes).items())
    return f"{name}{{{labels}}}" if labels else name


def read_metrics(body):
    for resource in Parse(body, ExportMetricsServiceRequest()).resource_metrics:
        assert attributes(resource.resource.attributes)["service.name"] == "fanfare"
        for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
            kind = metric.WhichOneof("data")
            data = getattr(metric, kind)
            assert kind == "gauge" or data.aggregation_temporality == 2, metric.name
            for point in data.data_points:
                assert 0 < point.start_time_unix_nano <= point.time_unix_nano, metric.name
                if kind == "histogram":
                    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1, metric.name
                    assert sum(point.bucket_counts) == point.count, metric.name
                    value = point.count
                else:
                    value = getattr(point, point.WhichOneof("value"))
                metrics[named(metric.name, point)] = value


def read_spans(body):
    # JSON of protobuf has base64 where that of OTLP has hexadecimal digits.
    request = json.loads(body)
    for resource in request["resourceSpans"]:
        for span in (span for scope in resource["scopeSpans"] for span in scope["spans"]):
            for key in ("traceId", "spanId"):
                span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    for resource in Parse(json.dumps(request), ExportTraceServiceRequest()).resource_spans:
        for span in (span for scope in resource.scope_spans for span in scope.spans):
            assert len(span.trace_id) == 16 and len(span.span_id) == 8 and any(span.trace_id)
            assert span.start_time_unix_nano <= span.end_time_unix_nano
            spans.append({"name": span.name, "error": span.status.code == 2, **attributes(span.attributes)})


for request in json.load(sys.stdin):
    {"/v1/metrics": read_metrics, "/v1/traces": read_spans}[request["path"]](request["body"])
print(json.dumps({"metrics": metrics, "spans": spans}))
