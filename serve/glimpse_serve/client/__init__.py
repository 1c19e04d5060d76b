"""The Python client of the service: ``pip install 'glimpse-attention[client]'``.

from glimpse_serve.client import Client

with Client("http://localhost:8000", key="...") as client:
result = client.classify("photo.png", confidence=0.98)
print(result.label, result.confidence, [glimpse.boxes for glimpse in result.glimpses])
for glimpse in client.look(slide):  # a lazy image: only the pixels of the glimpses are sent
print(glimpse.boxes, glimpse.label)
"""

from glimpse_serve.client.client import Client
from glimpse_serve.client.results import Classification, GlimpsePrediction, ServiceError
from glimpse_serve.client.streaming import StreamingSession

__all__ = ["Classification", "Client", "GlimpsePrediction", "ServiceError", "StreamingSession"]
