"""The traces of mlflow's first experiment, as a program of mlflow's reads them.

python mlflow_traces.py http://HOST:PORT
"""

import json
import sys

import mlflow

mlflow.set_tracking_uri(sys.argv[1])
traces = mlflow.search_traces(locations=["0"], return_type="list")
print(
    json.dumps(
        [
            {
                "name": span.name,
                "trace": span.trace_id,
                "span": span.span_id,
                "parent": span.parent_id,
                "begun": span.start_time_ns,
                "ended": span.end_time_ns,
                "status": span.status.status_code.value,
                "attributes": span.attributes,
            }
            for trace in traces
            for span in trace.data.spans
        ]
    )
)
